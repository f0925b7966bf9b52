"""Inference for devices without HTTP/2: MQTT carries the bytes of gRPC's messages."""
