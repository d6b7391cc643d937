"""Rows that several processes hold together.

Process 0 holds the first rows, process 1 the next, and so on; a process may hold none. A position
counts rows over all processes.
"""

import torch
from torch import Tensor, distributed


class Shards:
    """This process's share of the rows, and the way to the others.

    Every process must call the same methods in the same order. With one process nothing is sent,
    and nothing is copied.

    Args:
        rows: how many rows this process holds.
        group: a torch.distributed process group; None for this process alone.
        device: where the tensors are that will be sent.
    """

    def __init__(
        self,
        rows: int,
        group: distributed.ProcessGroup | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.group = group
        self.rank = 0 if group is None else distributed.get_rank(group)
        self.count = 1 if group is None else distributed.get_world_size(group)
        lengths = self.each(torch.tensor(rows, device=device)).tolist()
        self.starts = [0]  # of each process's rows, and the end of the last
        for length in lengths:
            self.starts.append(self.starts[-1] + length)

    @property
    def own(self) -> slice:
        """Positions of this process's rows."""
        return slice(self.starts[self.rank], self.starts[self.rank + 1])

    @property
    def rows(self) -> int:
        """Rows of all processes."""
        return self.starts[-1]

    def each(self, value: Tensor) -> Tensor:
        """Values of one shape from every process: [...] -> [processes, ...]."""
        if self.group is None:
            return value.unsqueeze(0)
        values = [torch.empty_like(value) for _ in range(self.count)]
        distributed.all_gather(values, value.contiguous(), group=self.group)
        return torch.stack(values)

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes, in their order: [...] -> [...]."""
        return value if self.group is None else self.each(value).sum(0)

    def take(self, positions: Tensor, rows: Tensor) -> Tensor:
        """Rows at some positions, wherever they are held.

        Args:
            positions: [B] long, the same in every process.
            rows: [own rows, ...]; the rows that this process holds.

        Returns:
            [B, ...], the same in every process.
        """
        if self.group is None:
            return rows[positions]
        taken = rows.new_zeros(len(positions), *rows.shape[1:])
        here = (positions >= self.own.start) & (positions < self.own.stop)
        taken[here] = rows[positions[here] - self.own.start]
        distributed.all_reduce(taken, group=self.group)  # one process has it, the others zeros
        return taken

    def first_largest(self, values: Tensor) -> Tensor:
        """Position of the largest value, the lowest of equals: [own rows] -> [1] long."""
        if self.group is None:
            return values.argmax(0, keepdim=True)
        own = values.argmax(0, keepdim=True) if len(values) else values.new_zeros(1).long()
        best = values[own] if len(values) else values.new_full((1,), -torch.inf)
        rank = self.each(best).argmax(0)  # [1]
        return self.each(own + self.own.start)[rank].squeeze(0)

    def largest(self, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The largest values: [own rows] -> [B], descending, and [B] long positions.

        B is `count`, or all rows if there are fewer. Which of equals are taken is not said.
        """
        top = values.topk(min(count, len(values)))
        if self.group is None:
            return top.values, top.indices
        best = values.new_full((count,), -torch.inf)
        best[: len(top.values)] = top.values
        positions = torch.full_like(best, self.own.start, dtype=torch.long)
        positions[: len(top.values)] += top.indices
        top = self.each(best).flatten().topk(min(count, self.rows))
        return top.values, self.each(positions).flatten()[top.indices]
