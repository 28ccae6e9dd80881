"""What the browser may ask of the server besides running graphs."""

from aiohttp import web
from server import PromptServer

from .dataset_routes import add_dataset_routes, json_of
from .live import states
from .running import finish


def add_routes(server: PromptServer) -> None:
    """POST /slider_lora/finish {"node": id}: the training in that node finishes with its step.

    GET /slider_lora/progress: the state (live.py) of every node that trains, or trained in this session.
    /slider_lora/dataset: the images of a dataset's folder (dataset_routes.py).
    """
    add_dataset_routes(server)

    @server.routes.get("/slider_lora/progress")
    async def _progress(_request: web.Request) -> web.Response:
        return web.json_response({"nodes": states()})

    @server.routes.post("/slider_lora/finish")
    async def _finish(request: web.Request) -> web.Response:
        sent = json_of(await request.read())
        if not isinstance(sent, dict) or "node" not in sent:
            return web.json_response({"error": 'The request needs {"node": id}.'}, status=400)
        node = str(sent["node"])
        if finish(node):
            return web.json_response({"finishing": node})
        return web.json_response({"error": f"Node {node} is not training."}, status=409)
