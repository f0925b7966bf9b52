#include "credentials.hpp"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <mutex>
#include <utility>

namespace taper {
namespace {

grpc_ssl_server_certificate_config* to_config(const Pem& pem) {
  const grpc_ssl_pem_key_cert_pair pair = {pem.key.c_str(), pem.certificate.c_str()};
  // gRPC 1.51 requires authorities, but ignores them if clients are not asked for a certificate.
  const std::string& roots = pem.client_authorities.empty() ? pem.certificate : pem.client_authorities;
  return grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
}

// gRPC's C++ library can watch certificate files, but uses them unchecked. The C core can ask for
// certificates instead, which lets Python check the files first.
class AskingCredentials final : public grpc::ServerCredentials {
 public:
  AskingCredentials(Pem first, FetchPem fetch)
      : current_(std::move(first)), fetch_(std::move(fetch)) {
    const auto clients = current_.client_authorities.empty()
                             ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                             : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, &ask, this));
  }
  ~AskingCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status ask(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto* const own = static_cast<AskingCredentials*>(self);
    auto fetched = own->fetch_();
    const std::lock_guard lock(own->mutex_);
    if (fetched) own->current_ = std::move(*fetched);
    *config = to_config(own->current_);  // gRPC 1.51 asks for every connection and needs an answer
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  std::mutex mutex_;
  Pem current_;
  FetchPem fetch_;
  grpc_server_credentials* credentials_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> tls_credentials(Pem first, FetchPem fetch) {
  return std::make_shared<AskingCredentials>(std::move(first), std::move(fetch));
}

}  // namespace taper
