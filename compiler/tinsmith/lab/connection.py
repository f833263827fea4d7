"""labgrid's client in a thread of its own, so that it answers its coordinator while we compute."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import CompileError, MissingTool

T = TypeVar("T")
_ANSWER_SECONDS = 20.0
_PORT = 20408  # labgrid's own
_OWN_CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 7500),  # these as labgrid's client has them
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]


class LabUnavailable(CompileError):
    """The coordinator, a place of it, or what the place needs is not there for us."""

    exit_code = 3


@dataclass(frozen=True)
class Exported:
    """A resource of a place that is held. host: where it is reached from here, through labgrid's
    proxy where it asks for one. parameters: as its exporter gave them."""

    name: str
    kind: str
    host: str
    parameters: dict[str, Any]

    @property
    def port(self) -> int | None:
        """Of TCP; None while its exporter has not started it."""
        return self.parameters.get("port")


class Connection:
    """To a coordinator. Raises MissingTool without labgrid, LabUnavailable when none answers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._labgrid = _labgrid()
        # labgrid logs to the root logger, whose first message would otherwise open stderr
        self._silence = logging.NullHandler()
        logging.getLogger().addHandler(self._silence)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._session: Any = None
        try:
            self._session = self._wait(self._connect())
        except BaseException as error:
            self._end()
            if isinstance(error, CompileError | KeyboardInterrupt | SystemExit):
                raise
            raise self._unavailable(str(error)) from error

    async def _connect(self) -> Any:
        proxies = importlib.import_module("labgrid.util.proxy").proxymanager
        address = proxies.get_grpc_address(self.address, default_port=_PORT)
        session = self._labgrid.ClientSession(address, asyncio.get_running_loop())
        # The coordinator tells clients apart by their TCP connections, which gRPC shares in a
        # process unless it is told not to.
        await session.channel.close()
        session.channel = self._labgrid.grpc.aio.insecure_channel(address, options=_OWN_CHANNEL)
        stubs = self._labgrid.labgrid_coordinator_pb2_grpc
        session.stub = stubs.CoordinatorStub(session.channel)
        await session.start()
        return session

    def acquire(self, name: str) -> None:
        """Raises LabUnavailable for a place that is unknown, or that somebody holds."""
        try:
            self._wait(self._acquire(name))
        except (KeyboardInterrupt, SystemExit):
            self.release(name)  # it may have been had already
            raise

    async def _acquire(self, name: str) -> None:
        session = self._session
        place = session.places.get(name)
        if place is None:
            known = ", ".join(sorted(session.places)) or "none"
            raise LabUnavailable(
                f"the coordinator {self.address} has no place {name!r}", expected=f"one of: {known}"
            )
        if place.acquired:
            raise held_by(name, place.acquired)
        try:
            session.check_matches(place)
            await session.stub.AcquirePlace(_message("AcquirePlaceRequest", name))
        except self._labgrid.Error as error:
            raise LabUnavailable(
                f"the place {name} cannot be had: {' '.join(map(str, error.args))}",
                hint="is its exporter running? `labgrid-client resources` lists what is there",
            ) from error
        except self._labgrid.grpc.aio.AioRpcError as error:
            await session.sync_with_coordinator()  # somebody may have been faster
            if place.acquired:
                raise held_by(name, place.acquired) from error
            raise LabUnavailable(
                f"the place {name} cannot be had: {error.details()}",
                hint="`labgrid-client resources --acquired` says who holds its resources",
            ) from error
        await session.sync_with_coordinator()

    def release(self, name: str) -> None:
        """Lets go of a place if we hold it: one that an administrator has given to somebody else
        stays theirs. Raises LabUnavailable when the coordinator does not do so."""
        self._wait(self._release(name))

    async def _release(self, name: str) -> None:
        session = self._session
        message = _message("ReleasePlaceRequest", name)
        message.fromuser = f"{session.gethostname()}/{session.getuser()}"
        try:
            await session.stub.ReleasePlace(message)
        except self._labgrid.grpc.aio.AioRpcError as error:
            raise LabUnavailable(
                f"the place {name} could not be released: {error.details()}",
                hint=f"labgrid-client -p {name} release",
            ) from error

    def resources(self, name: str) -> list[Exported]:
        """Those of a place that is held and whose exporters say that they are available."""
        return self._wait(self._resources(name))

    async def _resources(self, name: str) -> list[Exported]:
        session = self._session
        place = session.places[name]
        found: list[Exported] = []
        for exporter, group, kind, resource in place.acquired_resources:
            entry = session.resources.get(exporter, {}).get(group, {}).get(resource)
            if entry is None or not entry.avail:
                continue
            match = place.getmatch((exporter, group, kind, resource))
            shown = (match.rename if match is not None else None) or resource
            arguments = dict(entry.args)
            host, port = str(arguments.get("host", exporter)), arguments.get("port")
            if entry.cls == "NetworkSerialPort" and port is not None:
                host, arguments["port"] = self._reached(entry)
            found.append(Exported(shown, entry.cls, host, arguments))
        return found

    def _reached(self, entry: Any) -> tuple[str, int]:
        """Where its port is from here: labgrid forwards it when the exporter is isolated."""
        package = importlib.import_module("labgrid")
        proxies = importlib.import_module("labgrid.util.proxy").proxymanager
        target = package.Target("tinsmith")
        resource = package.target_factory.make_resource(target, entry.cls, None, entry.args)
        resource.extra = entry.extra
        return proxies.get_host_and_port(resource)

    def close(self) -> None:
        try:
            self._wait(self._session.stop())
            self._wait(self._session.close())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        logging.getLogger().removeHandler(self._silence)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_ANSWER_SECONDS)
        except TimeoutError:
            future.cancel()
            raise self._unavailable("it does not answer") from None

    def _unavailable(self, why: str) -> LabUnavailable:
        return LabUnavailable(
            f"the labgrid coordinator {self.address} cannot be used: {why}",
            hint="--coordinator HOST:PORT or LG_COORDINATOR says where it is",
        )


def held_by(place: str, holder: str) -> LabUnavailable:
    """holder: HOST/USER, as labgrid writes it."""
    host, _, user = holder.partition("/")
    return LabUnavailable(
        f"the place {place} is held by {user} at {host}",
        hint=f"wait, or ask for `labgrid-client -p {place} release`",
    )


def _message(kind: str, place: str) -> Any:
    messages = importlib.import_module("labgrid.remote.generated.labgrid_coordinator_pb2")
    return getattr(messages, kind)(placename=place)


def _labgrid() -> Any:
    try:
        return importlib.import_module("labgrid.remote.client")
    except ImportError as error:
        raise MissingTool(
            f"labgrid is not installed: {error}", hint='pip install "tinsmith[lab]"'
        ) from error
