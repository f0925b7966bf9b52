"""The gRPC and REST services: they read calls, ask ``InferenceService`` and write the answers.

Within the cloud only this package and ``cloud.ray_app`` handle protobuf messages. The messages of
``taper.split.v1`` are converted in ``shared.protocol.messages``, which the device uses too.
"""
