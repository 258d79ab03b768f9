"""seed-autoscaler: the service that Cluster Autoscalers ask for nodes, by gRPC over mutual TLS.

externalgrpc.proto and core_v1.proto are the protocol; `*_pb2.py` are made of them (`make protos`).
"""
