"""The device half for browsers: the C engine as WebAssembly, its JavaScript, and their build."""
