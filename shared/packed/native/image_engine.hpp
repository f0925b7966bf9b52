// Both halves of a network, which compute serialised responses from serialised requests with
// images.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine.hpp"
#include "half.hpp"
#include "tensor_messages.hpp"

namespace taper {

// Immutable, so that any number of threads may use one. Images run on the device half's last plan,
// the widest. The cloud half's plan of a pair of levels is number level * cloud_levels +
// cloud_level.
class ImageEngine {
 public:
  ImageEngine(std::shared_ptr<const Half> device, std::shared_ptr<const Half> cloud,
              std::string model, std::string version, std::vector<std::size_t> image_shape,
              std::size_t cloud_levels, std::size_t classes);

  // Parses a request, runs both halves and serialises the response. Returns nothing for a request
  // that is invalid or unusual (see `read_image_request`; also one with another model, with a
  // version, or with more than `most` samples), which is left to the caller. The seconds of the
  // device half are reported as those of decoding.
  std::optional<EngineAnswer> answer(std::string_view request, std::uint32_t cloud_level,
                                     std::size_t most) const;

  // The same for a parsed request.
  std::optional<EngineAnswer> answer(const ImageRequest& request, std::uint32_t cloud_level,
                                     std::size_t most) const;

 private:
  std::shared_ptr<const Half> device_;
  std::shared_ptr<const Half> cloud_;
  std::string model_;
  std::string version_;
  std::vector<std::size_t> image_shape_;
  std::size_t cloud_levels_;
  std::size_t classes_;
};

}  // namespace taper
