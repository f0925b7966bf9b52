"""The gRPC services.

Messages in, messages out. The one place of the server that touches protobuf.
"""
