"""The gRPC services: they read calls, ask ``InferenceService`` and write the answers.

Within the cloud only this package and ``cloud.ray_app`` handle protobuf messages; the conversions
of split messages are in ``shared.protocol.messages``, which the device uses too.
"""
