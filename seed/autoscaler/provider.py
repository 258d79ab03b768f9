"""The service CloudProvider: each call in rows' words, each error in gRPC's.

Whose certificate it is decides which cluster is meant; no call names one.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Final
from uuid import UUID

import grpc
import structlog

from provisioning import autoscalers
from provisioning.autoscaling import Autoscaling, Instance, Node, NodeGroup
from provisioning.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NoCapacity,
    NotFound,
    QuotaExceeded,
    SeedError,
    TooMany,
    Unauthenticated,
)
from seed.autoscaler import externalgrpc_pb2 as pb
from seed.autoscaler import node as templates

log = structlog.get_logger()

CODES: Final[tuple[tuple[type[SeedError], grpc.StatusCode], ...]] = (
    (NoCapacity, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (QuotaExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TooMany, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
)
"""The first that fits. All others are UNAVAILABLE: later again."""
THREADS: Final = 4
CALLS: Final = 32
"""At once, waiting ones among them; more are refused with RESOURCE_EXHAUSTED."""
STREAMS: Final = 8
"""Calls of one connection at once; an autoscaler makes one after the other. More wait in it."""
LARGEST: Final = 4 << 20
"""Bytes of a message: 500 nodes with all labels and annotations in one DeleteNodes."""
SHORTEST: Final = 0.5
"""Seconds: a change that cannot be answered in time is not begun."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.max_send_message_length", LARGEST),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.max_concurrent_streams", STREAMS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.so_reuseport", 0),  # a second one fails to start
)
Call = Callable[[UUID, Any], Any]
CHANGES: Final = frozenset(
    {"NodeGroupIncreaseSize", "NodeGroupDeleteNodes", "NodeGroupDecreaseTargetSize"}
)


class Provider:
    """What each method of the service answers; `cluster` is the caller's."""

    def __init__(self, scaling: Autoscaling) -> None:
        self._scaling = scaling

    def calls(self) -> dict[str, Call]:
        """Method -> its answer. What is not among them is UNIMPLEMENTED, as the protocol allows
        for prices: nobody pays for these nodes by the hour."""
        return {
            "NodeGroups": self._groups,
            "NodeGroupForNode": self._group_for_node,
            "GPULabel": lambda _cluster, _asked: pb.GPULabelResponse(),
            "GetAvailableGPUTypes": lambda _cluster, _asked: pb.GetAvailableGPUTypesResponse(),
            "Cleanup": lambda _cluster, _asked: pb.CleanupResponse(),
            "Refresh": lambda _cluster, _asked: pb.RefreshResponse(),
            "NodeGroupTargetSize": self._target_size,
            "NodeGroupIncreaseSize": self._increase,
            "NodeGroupDeleteNodes": self._delete,
            "NodeGroupDecreaseTargetSize": self._decrease,
            "NodeGroupNodes": self._nodes,
            "NodeGroupTemplateNodeInfo": self._template,
            # Without options the autoscaler takes its flags': an answer would also set to 0 what
            # its protocol has no field for yet, as MaxNodeStartupTime of 1.35 and 1.36.
            "NodeGroupGetOptions": lambda _cluster, _asked: (
                pb.NodeGroupAutoscalingOptionsResponse()
            ),
        }

    def _groups(self, cluster: UUID, _asked: Any) -> Any:  # noqa: ANN401
        groups = [_group(found) for found in self._scaling.groups(cluster)]
        return pb.NodeGroupsResponse(nodeGroups=groups)

    def _group_for_node(self, cluster: UUID, asked: Any) -> Any:  # noqa: ANN401
        """An empty id: the autoscaler leaves this node alone."""
        found = self._scaling.group_of(cluster, _node(asked.node))
        return pb.NodeGroupForNodeResponse(nodeGroup=_group(found) if found else pb.NodeGroup())

    def _target_size(self, cluster: UUID, asked: Any) -> Any:  # noqa: ANN401
        size = self._scaling.target_size(cluster, asked.id)
        return pb.NodeGroupTargetSizeResponse(targetSize=size)

    def _increase(self, cluster: UUID, asked: Any) -> Any:  # noqa: ANN401
        self._scaling.increase(cluster, asked.id, asked.delta)
        return pb.NodeGroupIncreaseSizeResponse()

    def _delete(self, cluster: UUID, asked: Any) -> Any:  # noqa: ANN401
        self._scaling.delete(cluster, asked.id, [_node(node) for node in asked.nodes])
        return pb.NodeGroupDeleteNodesResponse()

    def _decrease(self, cluster: UUID, asked: Any) -> Any:  # noqa: ANN401
        self._scaling.decrease(cluster, asked.id, asked.delta)
        return pb.NodeGroupDecreaseTargetSizeResponse()

    def _nodes(self, cluster: UUID, asked: Any) -> Any:  # noqa: ANN401
        found = self._scaling.nodes(cluster, asked.id)
        return pb.NodeGroupNodesResponse(instances=[_instance(one) for one in found])

    def _template(self, cluster: UUID, asked: Any) -> Any:  # noqa: ANN401
        found = self._scaling.template(cluster, asked.id)
        if found is None:
            raise _Unknown
        node = templates.of(found, f"{asked.id}-template")
        return pb.NodeGroupTemplateNodeInfoResponse(nodeInfo=node, nodeBytes=node)


class _Unknown(Exception):
    """gRPC's UNIMPLEMENTED, which the autoscaler takes for "look at a node that is there"."""


def serve(
    scaling: Autoscaling, address: str, key: bytes, certificate: bytes, client_ca: bytes
) -> tuple[grpc.Server, int]:
    """Begin to answer at `address` (HOST:PORT; port 0: any); (server, port).

    key, certificate, client_ca: PEM; who has no certificate of client_ca's is no caller.
    Raises RuntimeError where nobody may listen there.
    """
    server = grpc.server(
        ThreadPoolExecutor(THREADS, "call"), options=OPTIONS, maximum_concurrent_rpcs=CALLS
    )
    service = pb.DESCRIPTOR.services_by_name["CloudProvider"]
    calls, changing = Provider(scaling).calls(), threading.Lock()
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            _guarded(method.name, calls[method.name], scaling, changing),
            request_deserializer=getattr(pb, method.input_type.name).FromString,
            response_serializer=getattr(pb, method.output_type.name).SerializeToString,
        )
        for method in service.methods
        if method.name in calls
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service.full_name, handlers),)
    )
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=client_ca, require_client_auth=True
    )
    port = server.add_secure_port(address, credentials)
    server.start()
    return server, port


def _guarded(
    name: str, call: Call, scaling: Autoscaling, changing: threading.Lock
) -> Callable[[Any, Any], Any]:
    """Nothing gets past it but an answer or a status with a sentence."""

    def guarded(asked: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
        began = time.monotonic()
        try:
            with changing if name in CHANGES else nullcontext():
                _in_time(name, context)
                with scaling.store.read() as session:
                    cluster = autoscalers.cluster_of(session, _certificate(context)).id
                answer = call(cluster, asked)
        except _Unknown:
            code, said = grpc.StatusCode.UNIMPLEMENTED, "it is not known what such a node has"
        except SeedError as error:
            code, said = _code(error), f"{error}. {error.remedy}"
        except Exception as error:
            log.error("autoscaler.broke", call=name, exc_info=error)
            code, said = (
                grpc.StatusCode.UNAVAILABLE,
                "something went wrong inside Seed. seed logs seed-autoscaler",
            )
        else:
            if name in CHANGES:
                seconds = round(time.monotonic() - began, 3)
                log.info("autoscaler.changed", call=name, cluster=str(cluster), seconds=seconds)
            return answer
        log.info("autoscaler.refused", call=name, code=code.name, why=said)
        context.abort(code, said)

    return guarded


def _code(error: SeedError) -> grpc.StatusCode:
    found = (code for kind, code in CODES if isinstance(error, kind))
    return next(found, grpc.StatusCode.UNAVAILABLE)


def _certificate(context: grpc.ServicerContext) -> bytes:
    found = context.auth_context().get("x509_pem_cert", [])
    if len(found) != 1:  # TLS let nobody in without one
        raise Unauthenticated("no certificate was shown", "seed cluster autoscaler NAME")
    return bytes(found[0])


def _in_time(name: str, context: grpc.ServicerContext) -> None:
    """What waited until its caller was gone changes nothing any more."""
    left = context.time_remaining()
    late = left is not None and left < SHORTEST
    if not context.is_active() or (name in CHANGES and late):
        raise TooMany("the call's deadline is over or too near", "Set grpc_timeout: 30s.", 1)


def _node(asked: Any) -> Node:  # noqa: ANN401
    return Node(asked.providerID, asked.name)


def _group(found: NodeGroup) -> Any:  # noqa: ANN401
    return pb.NodeGroup(id=found.id, minSize=found.min, maxSize=found.max, debug=found.debug)


def _instance(one: Instance) -> Any:  # noqa: ANN401
    status = pb.InstanceStatus(instanceState=int(one.state))
    if one.error:
        status.errorInfo.errorCode = "stuck" if one.error_class != 1 else "no-capacity"
        status.errorInfo.errorMessage = one.error
        status.errorInfo.instanceErrorClass = one.error_class
    return pb.Instance(id=one.id, status=status)
