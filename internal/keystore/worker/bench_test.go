package worker

import (
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"gardu/internal/keystore/protocol"
)

// BenchmarkRaw is the reference for the keystore's benchmarks: the same module
// calls in process, in one session, with nothing around them.
func BenchmarkRaw(b *testing.B) {
	s := loggedIn(b)
	for _, c := range []struct {
		name string
		key  protocol.Create
		op   protocol.Op
		use  protocol.Use
	}{
		{
			"MAC", protocol.Create{Type: protocol.TypeGeneric, Bits: 512, Usage: protocol.UsageSign},
			protocol.OpMAC, protocol.Use{Mechanism: protocol.MechSHA512HMAC, Data: make([]byte, 256)},
		},
		{
			"Sign", protocol.Create{Type: protocol.TypeRSA, Bits: 2048, Usage: protocol.UsageSign},
			protocol.OpSign, protocol.Use{Mechanism: protocol.MechSHA256RSAPKCS, Data: []byte("message")},
		},
		{
			"EncryptCBC", protocol.Create{Type: protocol.TypeAES, Bits: 192, Usage: protocol.UsageEncrypt | protocol.UsageDecrypt},
			protocol.OpEncrypt, protocol.Use{Mechanism: protocol.MechAESCBC, IV: make([]byte, 16), Data: make([]byte, 160)},
		},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.key.Label, c.key.ID = b.Name(), []byte{1}
			require.NoError(b, s.tok.ceremony(func(sh pkcs11.SessionHandle) error {
				made, err := s.tok.make(sh, protocol.OpGenerate, &c.key, false)
				require.NoError(b, err)
				for b.Loop() {
					if _, err := s.tok.one(sh, made[0], c.op, &c.use); err != nil {
						b.Fatal(err)
					}
				}
				for _, h := range made {
					require.NoError(b, s.tok.ctx.DestroyObject(sh, h))
				}
				return nil
			}))
		})
	}
}
