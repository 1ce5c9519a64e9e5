"""What every program shows on its loopback-only admin port: health by service, reflection, channelz."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The health of each service of a program; '' is the program as a whole."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = ("", *services)
        self._servicer = health.aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve health, reflection and channelz on `server`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        names = [s for s in self._services if s]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        channelz.add_channelz_servicer(server)

    async def set(
        self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType, services: Iterable[str] = ()
    ) -> None:
        """These services, every one if none is named, are now SERVING or NOT_SERVING."""
        for service in tuple(services) or self._services:
            await self._servicer.set(service, status)
