// TLS credentials that ask for the present certificate at every new connection.
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

// Returns the certificates to use from now on, or nothing to keep the present ones. Called by
// gRPC's threads.
using FetchPem = std::function<std::optional<Pem>()>;

// `first` is used until `fetch` returns others. If it has client authorities, clients must show a
// certificate.
std::shared_ptr<grpc::ServerCredentials> tls_credentials(Pem first, FetchPem fetch);

}  // namespace taper
