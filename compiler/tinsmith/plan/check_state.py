"""The part of the independent check that follows state; and how the check words what it finds."""

from __future__ import annotations

from ..errors import InternalError
from ..ir.graph import Graph, Node
from ..kernels.kernel import KernelCall


class StateCheck:
    """The version that every state's bytes hold at the moment."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.holds = {old: old for old, _ in graph.updates}  # state → version
        self.state_of = {old: old for old, _ in graph.updates}  # version → state

    def run(self, node: Node, call: KernelCall | None) -> None:
        """Raise InternalError unless the node finds the versions that it asks for."""
        known = call.kernel.state(node, self.graph).values() if call else ()
        for value in node.inputs:
            state = self.state_of.get(value)
            if state is None:
                continue
            if self.holds[state] != value:
                raise wrong(f"state %{state.name} is %{self.holds[state].name} by now", node)
            if value not in known:
                raise wrong(f"the kernel takes %{value.name} for a constant, but it changes", node)
        for old, new in node.updates:
            if old not in self.state_of:
                raise wrong(f"%{old.name} is updated, but it is not state", node)
            self.holds[self.state_of[old]] = new
            self.state_of[new] = self.state_of[old]

    def finish(self) -> None:
        """Raise InternalError unless every state is what the graph wants in the end."""
        for old, new in self.graph.updates:
            if self.holds[old] != new:
                raise wrong(f"state %{old.name} ends as %{self.holds[old].name}, not %{new.name}")


def label(node: Node) -> str:
    """The node as messages name it."""
    return f"{node.op.name} %{node.name} ({node.origin})"


def wrong(text: str, node: Node | None = None) -> InternalError:
    """What `check_plan` raises."""
    return InternalError(
        f"the memory plan is wrong: {text}",
        node=label(node) if node else None,
        hint="this is a defect of tinsmith: please report it with the model",
        where="check_plan",
    )
