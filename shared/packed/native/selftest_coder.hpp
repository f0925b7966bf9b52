#pragma once

namespace taper {

// Random maps through the context coder: what comes out is what went in, cut and altered payloads
// are refused, and the payloads are the same bytes on every machine. False at the first difference,
// which is printed.
bool coder_passes(int coders, unsigned seed);

}  // namespace taper
