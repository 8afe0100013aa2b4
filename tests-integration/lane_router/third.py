"""The last service of the chain: `python third.py NAME PORT`, a gRPC server."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from lane_router import current_lane
from lane_router.instrumentation.grpc_server import LaneServerInterceptor

NAME, PORT = sys.argv[1], int(sys.argv[2])


class Handlers(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.look)

    def look(self, request: bytes, context: Any) -> bytes:
        return f"{NAME}:{current_lane()}".encode()


server = grpc.server(
    ThreadPoolExecutor(8), handlers=[Handlers()], interceptors=[LaneServerInterceptor()]
)
server.add_insecure_port(f"127.0.0.1:{PORT}")
server.start()
server.wait_for_termination()
