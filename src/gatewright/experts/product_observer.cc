#include "gatewright/experts/product_observer.h"

#include "gatewright/base/error.h"

namespace gatewright {
namespace {

thread_local ProductObserver* observer = nullptr;

}  // namespace

ProductObserver::ProductObserver() {
  require(observer == nullptr, "the products of a thread are observed already");
  observer = this;
}
ProductObserver::~ProductObserver() { observer = nullptr; }
ProductObserver* ProductObserver::current() { return observer; }

}  // namespace gatewright
