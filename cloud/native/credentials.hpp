// TLS whose certificates are asked for again at every new connection.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace taper {

struct Pem {
  std::string key;
  std::string certificate;
  std::string client_authorities;  // empty: clients need no certificate
};

// Gives what is to be used from now on, or nothing to keep what is in use. Called by gRPC's threads.
using FetchPem = std::function<std::optional<Pem>()>;

// `first` is used until `fetch` gives others; with its authorities, clients must show a certificate.
std::shared_ptr<grpc::ServerCredentials> tls_credentials(Pem first, FetchPem fetch);

}  // namespace taper
