package kube

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a transport whose answers have some bytes, which come one by one.
type answering int

func (n answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Body: io.NopCloser(oneByOne{bytes.NewReader(make([]byte, n))})}, nil
}

type oneByOne struct{ io.Reader }

func (r oneByOne) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

// readSlowly reads an answer, and works for a while on each byte.
func readSlowly(ctx context.Context, through http.RoundTripper, work time.Duration) (bytesRead int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server/pods", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := through.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for {
		n, err := resp.Body.Read(make([]byte, 10))
		bytesRead += n
		if errors.Is(err, io.EOF) {
			return bytesRead, nil
		}
		if err != nil {
			return bytesRead, err
		}
		time.Sleep(work)
	}
}

func TestWhoYieldsRestsAsLongAsItWorks(t *testing.T) {
	for _, test := range []struct {
		name   string
		work   time.Duration // on each of 100 bytes
		yields time.Duration // for how long
		want   time.Duration
	}{
		{"in large pieces", 20 * time.Millisecond, time.Hour, 4 * time.Second},
		{"in small pieces", time.Millisecond, time.Hour, 200 * time.Millisecond},
		{"until it is warm", 20 * time.Millisecond, time.Second, 2500 * time.Millisecond},
		{"not at all", 20 * time.Millisecond, 0, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				yields := func() bool { return time.Since(began) < test.yields }
				n, err := readSlowly(t.Context(), yielding{answering(100), yields}, test.work)
				if took := time.Since(began); n != 100 || err != nil || took.Round(50*time.Millisecond) != test.want {
					t.Errorf("%d bytes in %v, %v; not 100 in %v", n, took, err, test.want)
				}
			})
		})
	}
}

func TestARestEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		began := time.Now()
		_, err := readSlowly(ctx, yielding{answering(2), func() bool { return true }}, time.Minute)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 90*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}
