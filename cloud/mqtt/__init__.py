"""Inference for devices that have no HTTP/2: the bytes of gRPC's messages, carried by MQTT."""
