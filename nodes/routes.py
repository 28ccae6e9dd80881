"""What the browser may ask of the server besides running graphs."""

from aiohttp import web
from server import PromptServer

from .dataset_routes import add_dataset_routes, json_of
from .live import states
from .messages import preparations
from .running import finish, hand_on, train_on, withdraw
from .train_options import MOST


def add_routes(server: PromptServer) -> None:
    """POST /slider_lora/finish {"node": id}: the training in that node finishes with its step.

    POST /slider_lora/train_on {"node": id, "name": of the slider, "steps": beyond its end}: the node's next run trains it on.
    DELETE /slider_lora/train_on {"node": id, "name": of the slider}: it does not, where that run has not begun.
    POST /slider_lora/hand_on {"node": id, "wanted": whether}: in its next run it hands on what it has, and trains no further.
    GET /slider_lora/progress: the state (live.py) of every node that trains, or trained in this session;
    what those that prepare a training have said last (messages.py).
    /slider_lora/dataset: the images of a dataset's folder (dataset_routes.py).
    """
    add_dataset_routes(server)
    add_wishes(server)

    @server.routes.get("/slider_lora/progress")
    async def _progress(_request: web.Request) -> web.Response:
        return web.json_response({"nodes": states(), "preparing": preparations()})

    @server.routes.post("/slider_lora/finish")
    async def _finish(request: web.Request) -> web.Response:
        sent = json_of(await request.read())
        if not isinstance(sent, dict) or "node" not in sent:
            return web.json_response({"error": 'The request needs {"node": id}.'}, status=400)
        node = str(sent["node"])
        if finish(node):
            return web.json_response({"finishing": node})
        return web.json_response({"error": f"Node {node} is not training."}, status=409)


def add_wishes(server: PromptServer) -> None:
    """What a person wishes of the next run of a node that trains."""

    @server.routes.post("/slider_lora/train_on")
    async def _train_on(request: web.Request) -> web.Response:
        sent = json_of(await request.read())
        steps = sent.get("steps") if isinstance(sent, dict) else None
        if type(steps) is not int or not 0 <= steps <= MOST or "node" not in sent or "name" not in sent:
            return web.json_response({"error": 'The request needs {"node": id, "name": text, "steps": number}.'}, status=400)
        train_on(str(sent["node"]), str(sent["name"]), steps)
        return web.json_response({"node": str(sent["node"]), "steps": steps})

    @server.routes.post("/slider_lora/hand_on")
    async def _hand_on(request: web.Request) -> web.Response:
        sent = json_of(await request.read())
        if not isinstance(sent, dict) or "node" not in sent or type(sent.get("wanted")) is not bool:
            return web.json_response({"error": 'The request needs {"node": id, "wanted": true or false}.'}, status=400)
        hand_on(str(sent["node"]), sent["wanted"])
        return web.json_response({"node": str(sent["node"])})

    @server.routes.delete("/slider_lora/train_on")
    async def _withdraw(request: web.Request) -> web.Response:
        sent = json_of(await request.read())
        if not isinstance(sent, dict) or "node" not in sent or "name" not in sent:
            return web.json_response({"error": 'The request needs {"node": id, "name": text}.'}, status=400)
        return web.json_response({"withdrawn": withdraw(str(sent["node"]), str(sent["name"]))})
