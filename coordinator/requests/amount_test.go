package requests_test

import (
	"math"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/coordinator/requests"
	"github.com/understudy-ha/understudy/replica/ledger"
)

func TestAmountsDoNotWrap(t *testing.T) {
	for _, tt := range []struct {
		name       v1.ResourceName
		q          string
		amount     int64
		asked, has int64
	}{
		{"cpu", "1500m", 1500, 1500, 1500},
		{"cpu", "0.0001", 1, 1, 1},
		{"cpu", "9223372036854775807m", math.MaxInt64, ledger.Most, ledger.Most - 1},
		{"cpu", "10P", math.MaxInt64, ledger.Most, ledger.Most - 1},
		{"cpu", "18446744073709553", math.MaxInt64, ledger.Most, ledger.Most - 1},
		{"cpu", "18446744073709551616", math.MaxInt64, ledger.Most, ledger.Most - 1},
		{"memory", "16Ei", math.MaxInt64, ledger.Most, ledger.Most - 1},
		{"memory", "1e30", math.MaxInt64, ledger.Most, ledger.Most - 1},
		{"memory", "24Ti", 24 << 40, 24 << 40, 24 << 40},
		{"memory", "1Pi", 1 << 50, ledger.Most, ledger.Most - 1},
		{"x.com/thing", "-3", 0, 0, 0},
		{"cpu", "-10P", 0, 0, 0},
		{"memory", "0", 0, 0, 0},
	} {
		q := resource.MustParse(tt.q)
		if got := requests.Amount(tt.name, q); got != tt.amount {
			t.Errorf("%s of %s is %d, not %d", tt.q, tt.name, got, tt.amount)
		}
		if got := requests.Asked(tt.name, q); got != tt.asked {
			t.Errorf("who asks for %s of %s counts with %d, not %d", tt.q, tt.name, got, tt.asked)
		}
		if got := requests.Offered(tt.name, q); got != tt.has {
			t.Errorf("who has %s of %s counts with %d, not %d", tt.q, tt.name, got, tt.has)
		}
	}
}

func TestSumsDoNotWrap(t *testing.T) {
	const most, least = math.MaxInt64, math.MinInt64
	for _, tt := range [][3]int64{{1, 2, 3}, {most, 1, most}, {most, most, most}, {most, least, -1}, {least, -1, least}, {0, most, most}} {
		if got := requests.Sum(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%d + %d is %d", tt[0], tt[1], got)
		}
	}
	for _, tt := range [][3]int64{{3, 4, 12}, {most, 0, 0}, {0, most, 0}, {most, 1, most}, {most, 2, most}, {1 << 50, 1 << 31, most}} {
		if got := requests.Times(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%d * %d is %d", tt[0], tt[1], got)
		}
	}
}
