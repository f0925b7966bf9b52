#include <algorithm>

#include "call.hpp"
#include "front.hpp"
#include "message_bytes.hpp"

namespace taper {

StreamCall::StreamCall(Front& front, std::uint64_t id) : Call(front, id) {}

void StreamCall::request() {
  const std::lock_guard lock(mutex_);
  parts_->context.AsyncNotifyWhenDone(begin(Step::kEnded));
  front_.other_calls().RequestCall(&parts_->context, &parts_->stream, front_.queue(),
                                   front_.queue(), begin(Step::kArrived));
}

void StreamCall::arrived() {
  front_.request_other();
  info_.peer = parts_->context.peer();
  note_call();
  learn(parts_->context.method());
  front_.clients().use(info_.peer);
  counted_as_ = client().value_or(client_of(info_.peer));
  if (!front_.clients().enter_other(counted_as_)) {
    counted_as_.clear();
    finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "server: this client has too many calls at a time"});
    return;
  }
  Event event{EventKind::kCall, id_};
  event.call = shared_from_this();
  const std::lock_guard lock(mutex_);
  python_knows_ = true;
  front_.events().put(std::move(event));
}

void StreamCall::release() {
  parts_.reset();
  if (!counted_as_.empty()) front_.clients().leave_other(counted_as_);
}

void StreamCall::on(Step step, bool ok) {
  if (step == Step::kRead && ok) {
    const MessageBytes bytes(parts_->in);
    account_->note_message(bytes.view().size());
    on_message(bytes.view());
    return;
  }
  const std::lock_guard lock(mutex_);
  if (step == Step::kRead) {
    reading_ = false;
    read_end_ = true;
    front_.events().put({EventKind::kReadEnd, id_});
  } else if (step == Step::kWritten) {
    writing_ = false;
    if (!attached_) {
      front_.events().put({EventKind::kWritten, id_});
      return;
    }
    --unsent_;
    if (ok && !ready_.empty()) {
      const std::string next = std::move(ready_.front());
      ready_.pop_front();
      start_write(next);
    }
  }
  go_on();
}

void StreamCall::on_message(std::string_view message) {
  bool here = false;
  {
    const std::lock_guard lock(mutex_);
    reading_ = false;
    if (!attached_) {
      front_.events().put({EventKind::kMessage, id_, std::string(message)});
      return;
    }
    if (leaving_) return;
    // A message that comes while Python has yet to begin with an earlier one must not overtake it.
    here = not_begun_ == 0 && !front_.all_to_python();
    handling_ = true;
    ++with_others_;
  }
  Event event{EventKind::kMessage, id_};
  Scheduler::Answer answer;
  if (here) {
    event.named = state_->named();
    const auto self = std::static_pointer_cast<StreamCall>(shared_from_this());
    const std::size_t size = message.size();
    answer = front_.scheduler().infer(
        message, client_, std::numeric_limits<double>::infinity(), state_,
        [self, size](Outcome&& outcome) { self->on_outcome(std::move(outcome), size); });
  }
  if (answer.begun == Begun::kDone) {
    on_outcome(std::move(answer.outcome), message.size());
  }
  const std::lock_guard lock(mutex_);
  handling_ = false;
  if (answer.begun == Begun::kElsewhere) {
    ++not_begun_;
    event.data = message;
    front_.events().put(std::move(event));
  } else if (answer.begun == Begun::kQueued) {
    const auto gone = [](const Ticket& ticket) { return ticket.expired(); };
    tickets_.erase(std::remove_if(tickets_.begin(), tickets_.end(), gone), tickets_.end());
    tickets_.push_back(answer.ticket);
  }
  go_on();
}

void StreamCall::on_outcome(Outcome&& outcome, std::size_t received_bytes) {
  const bool answered = outcome.status == Status::kOk;
  const std::string response = answered ? std::move(outcome.response) : failure_response(outcome);
  front_.count(outcome, client_, received_bytes, answered ? response.size() : 0);
  answer(response);
}

void StreamCall::withdraw() {
  for (const Ticket& ticket : tickets_) front_.scheduler().withdraw(ticket);
}

// Read the next message if there is room for it; or, if reading has stopped, report when all
// requests are answered. The caller holds the lock.
void StreamCall::go_on() {
  if (!attached_ || handling_) return;
  const std::size_t unanswered = unsent_ + with_others_;
  if (!read_end_ && !leaving_ && !reading_ && unanswered < kInFlight) start_read();
  if ((read_end_ || leaving_) && unanswered == 0 && !told_answered_) {
    told_answered_ = true;
    front_.events().put({EventKind::kAnswered, id_});
  }
}

void StreamCall::start_read() {
  if (over()) return;
  reading_ = true;
  parts_->stream.Read(&parts_->in, begin(Step::kRead));
}

void StreamCall::start_write(std::string_view response) {
  if (over()) return;
  writing_ = true;
  parts_->stream.Write(to_message(response), begin(Step::kWritten));
}

void StreamCall::send(std::string_view response) {
  ++unsent_;
  if (writing_) {
    ready_.emplace_back(response);
  } else {
    start_write(response);
  }
}

void StreamCall::read() {
  const std::lock_guard lock(mutex_);
  start_read();
}

void StreamCall::write(std::string_view message) {
  const std::lock_guard lock(mutex_);
  start_write(message);
}

void StreamCall::respond(std::string_view response) {
  const std::lock_guard lock(mutex_);
  if (!start_finishing()) return;
  parts_->stream.WriteAndFinish(to_message(response), grpc::WriteOptions(), grpc::Status::OK,
                                begin(Step::kFinished));
}

void StreamCall::attach(std::string client) {
  const std::lock_guard lock(mutex_);
  client_ = std::move(client);
  state_ = std::make_shared<StreamState>();
  attached_ = true;
  go_on();
}

void StreamCall::begun(std::string model, std::string version) {
  const std::lock_guard lock(mutex_);
  --not_begun_;
  state_->name(std::move(model), std::move(version));
}

void StreamCall::answer(std::string_view response) {
  const std::lock_guard lock(mutex_);
  --with_others_;
  send(response);
  go_on();
}

void StreamCall::leave() {
  const std::lock_guard lock(mutex_);
  leaving_ = true;
  go_on();
}

void StreamCall::start_finish(const Ending& ending) {
  parts_->stream.Finish(
      grpc::Status(static_cast<grpc::StatusCode>(ending.status), ending.message),
      begin(Step::kFinished));
}

}  // namespace taper
