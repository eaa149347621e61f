package prepaid

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

func TestExplainFollowsTheTableInForce(t *testing.T) {
	c := Default()
	c.RejectCodes = map[string]string{"1031": "blocked", "4711": "too_many", "1309": takeOut}
	p := &Provider{cfg: c, success: map[string]bool{"00": true}, rejected: c.rejections()}
	for _, m := range Codes() {
		got, ok := p.Explain(m.Code)
		switch m.Code {
		case "0", "201", "1309":
			require.False(t, ok, m.Code)
		case "1031":
			require.Equal(t, txn.Meaning{Code: "1031", Says: "INVALID_BANK_ID", Outcome: txn.WasRejected, Reason: txn.ReasonBlocked}, got)
		default:
			require.Equal(t, m, got)
		}
	}
	got, ok := p.Explain("4711")
	require.True(t, ok)
	require.Equal(t, txn.ReasonTooMany, got.Reason)
	_, ok = p.Explain("9999")
	require.False(t, ok)
}
