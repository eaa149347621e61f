package upstream_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// plain sends a request to the control interface.
func plain(t *testing.T, req *http.Request) result {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return result{resp.StatusCode, resp.Header, string(body)}
}
