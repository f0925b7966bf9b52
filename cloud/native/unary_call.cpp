#include "call.hpp"
#include "front.hpp"
#include "message_bytes.hpp"

namespace taper {
namespace {

constexpr char kPushback[] = "grpc-retry-pushback-ms";

}  // namespace

UnaryCalls::UnaryCalls() {
  for (std::size_t i = 0; i < kMethods.size(); ++i) {
    AddMethod(new grpc::internal::RpcServiceMethod(
        kMethods[i], grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
    MarkMethodAsync(static_cast<int>(i));
  }
}

UnaryCall::UnaryCall(Front& front, std::uint64_t id, int method)
    : Call(front, id), method_(method) {}

void UnaryCall::request() {
  const std::lock_guard lock(mutex_);
  parts_->context.AsyncNotifyWhenDone(begin(Step::kEnded));
  front_.unary_calls().request(method_, &parts_->context, &parts_->request, &parts_->responder,
                               front_.queue(), begin(Step::kArrived));
}

void UnaryCall::arrived() {
  front_.request_unary(method_);
  info_.peer = parts_->context.peer();
  const MessageBytes bytes(parts_->request);
  const std::string_view data = bytes.view();
  received_bytes_ = data.size();
  note_call();
  account_->note_message(data.size());
  auto client = this->client();
  if (!client || front_.all_to_python()) {
    hand_to_python(data);
    return;
  }
  front_.clients().use(info_.peer);
  const std::string over = front_.clients().enter(*client, data.size());
  if (!over.empty()) {
    end({Status::kResourceExhausted, {}, over, 0, 0});
    return;
  }
  begin_with(data, std::move(*client));
}

void UnaryCall::begin_with(std::string_view data, std::string client) {
  client_ = std::move(client);
  const auto self = std::static_pointer_cast<UnaryCall>(shared_from_this());
  auto answer = method_ == UnaryCalls::kInfer
                    ? front_.scheduler().infer(data, client_, remaining_s(), nullptr,
                                               [self](Outcome&& outcome) { self->end(outcome); })
                    : front_.scheduler().infer_images(data, client_);
  if (answer.begun == Begun::kDone) {
    end(answer.outcome);
  } else if (answer.begun == Begun::kElsewhere) {
    hand_to_python(data);
  } else {
    const std::lock_guard lock(mutex_);
    ticket_ = answer.ticket;
  }
}

void UnaryCall::hand_to_python(std::string_view data) {
  learn(UnaryCalls::kMethods[static_cast<std::size_t>(method_)]);
  Event event{EventKind::kCall, id_, std::string(data)};
  event.call = shared_from_this();
  const std::lock_guard lock(mutex_);
  python_knows_ = true;
  front_.events().put(std::move(event));
}

void UnaryCall::end(const Outcome& outcome) {
  const bool answered = outcome.status == Status::kOk;
  front_.count(outcome, client_, received_bytes_, answered ? outcome.response.size() : 0);
  if (answered) {
    respond(outcome.response);
    return;
  }
  Ending ending{static_cast<int>(outcome.status), outcome.message};
  if (outcome.retry_after_ms > 0) {
    ending.trailer.emplace_back(kPushback, std::to_string(outcome.retry_after_ms));
  }
  finish(ending);
}

void UnaryCall::withdraw() { front_.scheduler().withdraw(ticket_); }

void UnaryCall::respond(std::string_view response) {
  const std::lock_guard lock(mutex_);
  if (!start_finishing()) return;
  parts_->responder.Finish(to_message(response), grpc::Status::OK, begin(Step::kFinished));
}

void UnaryCall::start_finish(const Ending& ending) {
  parts_->responder.FinishWithError(
      grpc::Status(static_cast<grpc::StatusCode>(ending.status), ending.message),
      begin(Step::kFinished));
}

void UnaryCall::release() {
  parts_.reset();
  if (!client_.empty()) front_.clients().leave(client_, received_bytes_);
}

}  // namespace taper
