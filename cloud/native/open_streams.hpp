// How many streams a connection has open, as gRPC's channelz counts them: also those whose request has
// not arrived yet, of which it tells nobody else.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace taper {

// The sockets of this process's only server by the names of their peers, as they are now.
std::unordered_map<std::string, std::intptr_t> server_sockets();

// Open streams of a socket; none if it has been closed.
std::uint64_t open_streams(std::intptr_t socket);

}  // namespace taper
