package requests

import (
	"math"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Amount returns a quantity of a resource in the engine's units: CPUs in
// thousandths, anything else as it is. The quantity's own methods wrap around
// when the result is no int64, so that 18446744073709553 CPUs become 1.4; here
// it is the largest int64 then. What is below zero counts as nothing.
func Amount(name v1.ResourceName, q resource.Quantity) int64 {
	scale := resource.Scale(0)
	if name == v1.ResourceCPU {
		scale = resource.Milli
	}
	switch {
	case q.Sign() <= 0:
		return 0
	case q.Cmp(*resource.NewScaledQuantity(math.MaxInt64, scale)) >= 0:
		return math.MaxInt64
	}
	return q.ScaledValue(scale)
}

// Asked returns what a pod that requests the quantity counts with, ledger.Most
// at most.
func Asked(name v1.ResourceName, q resource.Quantity) int64 { return ledger.Bounded(Amount(name, q)) }

// Offered returns what a node that has the quantity counts with. It never holds
// a pod that asks for the most there is.
func Offered(name v1.ResourceName, q resource.Quantity) int64 {
	return min(Amount(name, q), ledger.Most-1)
}

// Sum adds amounts, and returns the largest or smallest int64 where the sum is
// none.
func Sum(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	}
	return sum
}

// Times returns n times an amount, neither of which is below zero, the largest
// int64 where that is none.
func Times(amount, n int64) int64 {
	if n > 0 && amount > math.MaxInt64/n {
		return math.MaxInt64
	}
	return amount * n
}
