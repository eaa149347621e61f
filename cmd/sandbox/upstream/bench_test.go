package upstream_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"gardu/cmd/sandbox/upstream"
)

// BenchmarkResetPIN is a complete transaction over TLS, the client's own work included.
func BenchmarkResetPIN(b *testing.B) {
	cfg := config(b)
	cfg.Finpay.AnyCustomer = true
	w := start(b, cfg)
	token := w.token(upstream.Finpay)
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := n.Add(1)
			got, err := w.do(w.finpay(token, pathReset, resetBody(fmt.Sprint("ref", id), fmt.Sprintf("08%09d", id))))
			if err != nil || got.status != 200 {
				b.Error(got.body, err)
			}
		}
	})
	if got := w.EffectCount("finpay.reset_pin", ""); got != b.N {
		b.Fatalf("%d effects after %d requests", got, b.N)
	}
}
