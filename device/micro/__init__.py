"""The device half for microcontrollers: a C99 engine, and the generator of its model blobs."""
