"""Several processes that train one slider: what each computes, what they add up, and how they end together.

A step's batch is cut into parts, of which each rank computes every `world`-th. The gradients are added in the order of the
ranks: the sum is the same on all of them, bit for bit, and that of one process which works in as many parts. Every exchange
begins with a look at whether a rank has failed: then all raise that rank's error. torchrun begins the processes; one process
alone imports no torch.distributed. Cost of a step: one exchange of the adapter's gradients in float32, and two of some bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import nn

from .backend import batch_slices
from .config.checks import SliderError

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # for a rank that hangs; one that dies is noticed at once
LOST = "Another process of this training was lost ({}). What was saved is kept: --resume goes on, on any number of them."
CHOSEN = "SLIDER_LORA_DEVICE_CHOSEN"


class SharedError(SliderError):
    """What went wrong in another rank, or in all of them."""


class Ranks:
    """One process alone. `parts`: work as so many ranks would, one after another: for tests, and for those who want the numbers
    of a larger world."""

    rank = 0
    world = 1

    def __init__(self, parts: int = 1) -> None:
        self.parts = parts

    def groups(self, parts: Sequence[T]) -> list[list[T]]:
        """The parts of a step that this process computes, one group for each sum that it gives."""
        return [list(parts[number :: self.parts]) for number in range(self.parts)]

    def local(self, batch: int) -> int:
        """The most samples of a batch that one group holds: pairs stay whole."""
        return min(batch, 2 * -(-max(1, batch // 2) // self.parts)) if self.parts > 1 else batch

    def gradients(self, parameters: Sequence[nn.Parameter], groups: Sequence[T], backward: Callable[[T], float]) -> float:
        """Leave the sum of all groups' gradients in the parameters; the sum of their losses. `backward` leaves one group's."""
        if self.parts == 1:
            return backward(groups[0])
        loss = 0.0
        flats = []
        for group in groups:
            loss += backward(group)
            flats.append(flattened(parameters))
        unflatten(parameters, self._added(flats))
        return self._losses(loss)

    def _losses(self, loss: float) -> float:
        return loss

    def _added(self, flats: Sequence[torch.Tensor]) -> torch.Tensor:
        """The sum, in order."""
        total = flats[0]
        for flat in flats[1:]:
            total = total + flat
        return total

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a small CPU tensor over all ranks, in their order."""
        return value

    def rows(self, of: Callable[[slice], torch.Tensor], whole: torch.Tensor) -> torch.Tensor:
        """What `of` gives for the rows of a batch, each rank's share of them computed there. `whole`: shaped like the result."""
        return torch.cat([of(some) for some in self._row_shares(len(whole))])

    def _row_shares(self, count: int) -> list[slice]:
        """A share of the rows for each part, none of them empty."""
        return batch_slices(count, -(-count // self.parts))

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return flag

    def share(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, for all."""
        return make()

    def need_same(self, value: str, what: str) -> None:
        """SliderError where the ranks do not have the same."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within the block a fault of one rank ends all of them."""
        yield

    def end(self) -> None:
        """Leave the group."""


def flattened(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Gradients and, behind them, whether each parameter has one, as one float32 vector."""
    device = parameters[0].device
    flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    has = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    return torch.cat([*(gradient.detach().float().flatten() for gradient in flat), has])


def unflatten(parameters: Sequence[nn.Parameter], flat: torch.Tensor) -> None:
    """Put a sum of such vectors back; a parameter without a gradient on any rank keeps none."""
    *gradients, has = flat.split([*(p.numel() for p in parameters), len(parameters)])
    for p, gradient, count in zip(parameters, gradients, has.tolist(), strict=True):
        p.grad = gradient.reshape(p.shape).to(p.dtype) if count else None


class Group(Ranks):
    """One rank of several. `address`: where they meet, torchrun's own unless given."""

    def __init__(self, rank: int, world: int, address: str = "env://", timeout: timedelta = TIMEOUT) -> None:
        import torch.distributed as dist

        super().__init__(world)
        self.rank = rank
        self.world = world
        self._dist: Any = dist
        self._lost = False  # whether a rank is gone
        kind = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(kind, init_method=address, rank=rank, world_size=world, timeout=timeout)

    def groups(self, parts: Sequence[T]) -> list[list[T]]:
        return [list(parts[self.rank :: self.world])]

    def _added(self, flats: Sequence[torch.Tensor]) -> torch.Tensor:
        """One vector from each rank, added in their order: all_reduce would choose an order by the number of ranks."""
        flat = flats[0].contiguous()
        if self.world == 2:  # two have one order only
            self._exchange(lambda: self._dist.all_reduce(flat))
            return flat
        return super()._added(self._from_all(flat))

    def _from_all(self, own: torch.Tensor) -> list[torch.Tensor]:
        """That tensor of every rank."""
        every = [torch.empty_like(own) for _ in range(self.world)]
        self._exchange(lambda: self._dist.all_gather(every, own))
        return every

    def _losses(self, loss: float) -> float:
        return sum(self._statuses(loss))

    def total(self, value: torch.Tensor) -> torch.Tensor:
        self._statuses()
        return super()._added(self._from_all(value.contiguous()))

    def gradients(self, parameters: Sequence[nn.Parameter], groups: Sequence[T], backward: Callable[[T], float]) -> float:
        loss = backward(groups[0])
        loss = self._losses(loss)
        unflatten(parameters, self._added([flattened(parameters)]))
        return loss

    def rows(self, of: Callable[[slice], torch.Tensor], whole: torch.Tensor) -> torch.Tensor:
        shares = self._row_shares(len(whole))
        own = torch.zeros(shares[0].stop, *whole.shape[1:], dtype=torch.float32, device=whole.device)
        if self.rank < len(shares):
            some = shares[self.rank]
            own[: some.stop - some.start] = of(some)
        self._statuses()
        return torch.cat(self._from_all(own))[: len(whole)]

    def any(self, flag: bool) -> bool:
        return any(self._statuses(float(flag)))

    def share(self, make: Callable[[], T]) -> T:
        box: list[Any] = [make() if self.rank == 0 else None]
        self._statuses()
        self._exchange(lambda: self._dist.broadcast_object_list(box, 0, device=torch.device("cpu")))
        return box[0]

    def need_same(self, value: str, what: str) -> None:
        self._statuses()
        values = self._gathered(value)
        if len(set(values)) > 1:
            other = next(rank for rank, one in enumerate(values) if one != values[0])
            message = f"Rank {other} has another {what} than rank 0: give every process the same."
            raise SharedError(message, "ranks.differ")

    def _gathered(self, value: Any) -> list[Any]:
        """One object from each rank."""
        values: list[Any] = [None] * self.world
        self._exchange(lambda: self._dist.all_gather_object(values, value))
        return values

    def _exchange(self, run: Callable[[], Any]) -> None:
        """SliderError where a rank is gone."""
        try:
            run()
        except RuntimeError as fault:
            self._lost = True
            raise SharedError(LOST.format(str(fault).splitlines()[0][:120]), "ranks.lost") from fault

    def _statuses(self, value: float = 0.0, failed: bool = False) -> list[float]:
        """A number from each rank. Raises what went wrong where one of them has failed."""
        own = torch.tensor([value, float(failed)], dtype=torch.float64)
        every = self._from_all(own)
        if any(bool(status[1]) for status in every) and not failed:
            message, code = next(fault for fault in self._gathered(None) if fault is not None)
            raise SharedError(message, code)
        return [float(status[0]) for status in every]

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except SharedError:
            raise  # all have it
        except BaseException as fault:
            self._tell(fault)
            raise

    def _tell(self, fault: BaseException) -> None:
        """Let the others end with this fault, once."""
        if self._lost or getattr(fault, "shared", False):
            return
        fault.shared = True  # type: ignore[attr-defined]
        with suppress(SharedError):  # they are gone
            self._statuses(failed=True)
            text = str(fault) or type(fault).__name__
            self._gathered((f"Rank {self.rank}: {text}", getattr(fault, "code", "") or "ranks.fault"))

    def end(self) -> None:
        self._dist.destroy_process_group()


def world_size() -> int:
    """How many processes torchrun has begun; 1 without it."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_first() -> bool:
    """Whether this process speaks for all."""
    return world_size() == 1 or os.environ.get("RANK", "0") == "0"


def choose_device() -> None:
    """Of several processes on one machine each takes its own GPU. Before anything asks for a GPU."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or not rank.isdigit() or os.environ.get(CHOSEN):
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else []
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[int(rank) % len(devices)] if devices else rank
    os.environ[CHOSEN] = "1"


@contextmanager
def of_environment() -> Iterator[Ranks]:
    """The ranks that torchrun has begun, or one process alone."""
    if world_size() == 1:
        yield Ranks()
        return
    choose_device()
    group = Group(int(os.environ["RANK"]), world_size())
    try:
        with group.together():
            yield group
    finally:
        group.end()
