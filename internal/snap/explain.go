package snap

import (
	"fmt"

	"gardu/internal/txn"
)

// Codes is the table of response codes as docs/response-codes.md shows it. The
// middle two digits, the service, do not count and are written xx.
func Codes() []txn.Meaning {
	all := make([]txn.Meaning, 0, len(table))
	for i := range table {
		all = append(all, table[i].meaning())
	}
	return all
}

func (r *row) meaning() txn.Meaning {
	return txn.Meaning{Code: fmt.Sprintf("%dxx%s", r.status, r.kase), Says: r.says, Outcome: r.outcome, Reason: r.reason, Do: r.do}
}

// Explain implements txn.Explainer, of the provider it is part of.
func (*caller) Explain(code string) (txn.Meaning, bool) {
	status, kase, ok := splitCode(code)
	if !ok {
		return txn.Meaning{}, false
	}
	for i := range table {
		if table[i].status == status && table[i].kase == kase {
			return table[i].meaning(), true
		}
	}
	return txn.Meaning{}, false
}

var (
	_ txn.Explainer = (*Finpay)(nil)
	_ txn.Explainer = (*Netzme)(nil)
)
