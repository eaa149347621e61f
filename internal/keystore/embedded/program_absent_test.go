//go:build !embedworker

package embedded

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAProgramThatCarriesNoWorkerSaysSo(t *testing.T) {
	_, err := New(Options{}).Command()
	require.ErrorIs(t, err, ErrNotCarried)
	require.Empty(t, Sum())
}
