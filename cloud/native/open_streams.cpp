#include "open_streams.hpp"

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string_view>

namespace taper {
namespace {

constexpr std::intptr_t kAll = std::numeric_limits<int>::max();

// Takes over a string of gRPC's.
std::string taken(char* text) {
  if (text == nullptr) return "";
  std::string copy(text);
  gpr_free(text);
  return copy;
}

// The next value of a field after `start`, which moves behind it; all values are strings there.
std::optional<std::string_view> next(std::string_view json, std::string_view field,
                                     std::size_t& start) {
  const std::string before = "\"" + std::string(field) + "\":\"";
  const std::size_t found = json.find(before, start);
  if (found == std::string_view::npos) return std::nullopt;
  const std::size_t begin = found + before.size();
  start = std::min(json.find('"', begin), json.size());
  return json.substr(begin, start - begin);
}

std::uint64_t number(std::string_view json, std::string_view field) {
  std::size_t start = 0;
  const auto found = next(json, field, start);
  return found ? std::strtoull(std::string(*found).c_str(), nullptr, 10) : 0;  // without it: 0
}

}  // namespace

std::unordered_map<std::string, std::intptr_t> server_sockets() {
  std::unordered_map<std::string, std::intptr_t> found;
  const auto server = number(taken(grpc_channelz_get_servers(0)), "serverId");
  if (server == 0) return found;
  const std::string json = taken(
      grpc_channelz_get_server_sockets(static_cast<std::intptr_t>(server), 0, kAll));
  std::size_t start = 0;
  while (const auto name = next(json, "name", start)) {
    const auto id = next(json, "socketId", start);
    if (!id) break;
    found[std::string(*name)] = std::strtoll(std::string(*id).c_str(), nullptr, 10);
  }
  return found;
}

std::uint64_t open_streams(std::intptr_t socket) {
  const std::string json = taken(grpc_channelz_get_socket(socket));
  const std::uint64_t ended = number(json, "streamsSucceeded") + number(json, "streamsFailed");
  const std::uint64_t started = number(json, "streamsStarted");
  return started - std::min(started, ended);  // gRPC reads the numbers one after the other
}

}  // namespace taper
