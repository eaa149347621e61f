package main

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
)

// TestEveryProviderHasItsWords: an operation or a field without words would show its
// own name to a customer.
func TestEveryProviderHasItsWords(t *testing.T) {
	for _, r := range registry {
		t.Run(r.name, func(t *testing.T) {
			ag := newAgent(defaultSettings(), slog.New(slog.DiscardHandler))
			// Without a token none can be built; what it offers is known all the same.
			_, policies, err := r.table().build(t.Context(), ag)
			require.Error(t, err)
			require.NotEmpty(t, policies, "switched off, its operations are still shown")
			for _, p := range policies {
				keys := []string{"operation." + string(p.Operation)}
				for _, f := range p.Fields {
					keys = append(keys, "field."+f.Name)
				}
				for _, key := range keys {
					w, there := ui.Words(key)
					require.True(t, there, "there are no words for %s; add them to internal/ui/texts.go", key)
					require.NotEmpty(t, w.ID, key)
					require.NotEmpty(t, w.EN, key)
				}
			}
		})
	}
}
