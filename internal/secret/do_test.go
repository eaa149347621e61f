package secret_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
)

func TestDoCallsOnce(t *testing.T) {
	n := 0
	secret.Do(func() { n++ })
	require.Equal(t, 1, n)
	require.PanicsWithValue(t, "as it was", func() { secret.Do(func() { panic("as it was") }) })
}
