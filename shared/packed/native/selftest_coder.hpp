#pragma once

namespace taper {

// Tests the context coder on random maps: decoding returns the encoded maps, cut and altered
// payloads are refused, and the payloads are the same bytes on every machine. Prints the first
// failure and returns false.
bool coder_passes(int coders, unsigned seed);

}  // namespace taper
