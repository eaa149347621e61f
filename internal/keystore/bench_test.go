package keystore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
)

// The same operations in process, without the worker, are in package worker.

func BenchmarkMAC(b *testing.B) {
	s := softhsmtest.New(b).Open(b)
	m, err := s.MAC(generate(b, s, keystore.KindHMAC, "k"))
	require.NoError(b, err)
	message := make([]byte, 256)
	one := func(b *testing.B) {
		b.Helper()
		if _, err := m.Sum(b.Context(), message); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("one caller", func(b *testing.B) {
		for b.Loop() {
			one(b)
		}
	})
	b.Run("eight callers", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one(b)
			}
		})
	})
}

func BenchmarkSign(b *testing.B) {
	s := softhsmtest.New(b).Open(b)
	g, err := s.Signer(generate(b, s, keystore.KindRSA2048, "k"))
	require.NoError(b, err)
	for b.Loop() {
		if _, err := g.SignSHA256(b.Context(), []byte("message")); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncryptCBC(b *testing.B) {
	s := softhsmtest.New(b).Open(b)
	c, err := s.Cipher(generate(b, s, keystore.KindAES192, "k"))
	require.NoError(b, err)
	iv, plain := make([]byte, 16), make([]byte, 160)
	for b.Loop() {
		if _, err := c.EncryptCBC(b.Context(), iv, plain); err != nil {
			b.Fatal(err)
		}
	}
}
