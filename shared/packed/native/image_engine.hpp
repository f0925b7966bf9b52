// Both halves of a network, answering requests with whole images from bytes to bytes.
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

// Immutable once made, so that any number of threads may use one. Images take the device half's last
// plan, the widest; plan level * cloud_levels + cloud_level of the cloud
// half belongs to a pair of levels.
class ImageEngine {
 public:
  ImageEngine(std::shared_ptr<const Half> device, std::shared_ptr<const Half> cloud,
              std::string model, std::string version, std::vector<std::size_t> image_shape,
              std::size_t cloud_levels, std::size_t classes);

  // Parses, runs and serialises. Nothing for a request that is wrong or out of the ordinary (see
  // `read_image_request`; also another model, a version, more than `most` samples): the caller says
  // what is to be said. The seconds of decoding are those of the device half.
  std::optional<EngineAnswer> answer(std::string_view request, std::uint32_t cloud_level,
                                     std::size_t most) const;

  // The same for a request that was read.
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
