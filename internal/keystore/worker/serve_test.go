package worker

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

const (
	testPIN    = "canary-0815"
	testModule = "/usr/lib/softhsm/libsofthsm2.so"
)

// greeting logs a server of this process in to a fresh SoftHSM token. A module
// reads its configuration once per process, so all tests here share the token.
var greeting = sync.OnceValues(func() (*server, error) {
	dir, err := os.MkdirTemp("", "gardu-worker-test")
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	err = errors.Join(
		os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\n"), 0o600),
		os.Setenv("SOFTHSM2_CONF", conf))
	if err != nil {
		return nil, err
	}
	scratch = dir
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "w", "--pin", testPIN, "--so-pin", "12345678").CombinedOutput() //nolint:noctx // once, for all tests
	if err != nil {
		return nil, errors.Join(errors.New("SoftHSM is not installed (run `apt-get install softhsm2`), or: "+string(out)), err)
	}
	s := newServer(-1)
	if _, err := s.hello(nil, (&protocol.Hello{Module: testModule, Label: "w", Sessions: 2}).Append(nil)); err != nil {
		return nil, err
	}
	_, err = s.tok.login(nil, []byte(testPIN))
	return s, err
})

// scratch is the shared token's folder, empty while there is none.
var scratch string

func TestMain(m *testing.M) {
	code := m.Run()
	if scratch != "" {
		_ = os.RemoveAll(scratch)
	}
	os.Exit(code)
}

func loggedIn(tb testing.TB) *server {
	tb.Helper()
	s, err := greeting()
	require.NoError(tb, err)
	return s
}

// ask carries out one request and returns the answer's status and body.
func (s *server) ask(op protocol.Op, body []byte) (protocol.Frame, error) {
	out, err := s.answer(nil, protocol.Frame{Head: protocol.Head{ID: 1, Code: op}, Body: body})
	if err != nil {
		return protocol.Frame{}, err
	}
	f, ok, err := protocol.Next(out)
	if !ok {
		return f, errors.Join(errors.New("incomplete answer"), err)
	}
	return f, err
}

// FuzzRequest has a logged-in worker read foreign bytes as every operation. It
// may refuse and end the connection; it must not panic, hang or answer badly.
func FuzzRequest(f *testing.F) {
	key := protocol.Key{Label: "no such key", Class: protocol.ClassSecret, Type: protocol.TypeAES}
	use := protocol.Use{Key: key.Append(nil), Mechanism: protocol.MechAESGCM, IV: make([]byte, 12), Data: []byte("data")}
	ec := protocol.Create{Label: "x", ID: []byte{1}, Type: protocol.TypeEC, Bits: 1, Usage: protocol.UsageSign}
	secret := protocol.Create{Label: "x", ID: []byte{1}, Type: protocol.TypeGeneric, Bits: 8, Usage: protocol.UsageSign, Parts: [][]byte{{1}}}
	f.Add(protocol.OpHello, (&protocol.Hello{Module: "/m.so"}).Append(nil))
	f.Add(protocol.OpList, []byte{})
	f.Add(protocol.OpList, []byte{0})
	f.Add(protocol.OpDescribe, use.Append(nil))
	f.Add(protocol.OpDecrypt, use.Append(nil))
	f.Add(protocol.OpDestroy, use.Append(nil))
	f.Add(protocol.OpGenerate, ec.Append(nil))
	f.Add(protocol.OpImport, secret.Append(nil))
	f.Add(uint8(99), []byte{})
	s := loggedIn(f)
	f.Fuzz(func(t *testing.T, op uint8, body []byte) {
		var m protocol.Create
		if op == protocol.OpLogin || (op == protocol.OpGenerate && m.Parse(body) == nil && m.Type == protocol.TypeRSA && m.Bits >= 1024) {
			t.Skip("a foreign PIN, or key generation so long that the fuzzer takes it for a hang")
		}
		answer, err := s.ask(op, body)
		if err != nil {
			require.ErrorIs(t, err, protocol.ErrFrame)
			return
		}
		if answer.Code == protocol.StatusFailed {
			var failure protocol.Failure
			require.NoError(t, failure.Parse(answer.Body))
			require.NotZero(t, failure.Reason)
			require.NotEmpty(t, failure.Detail)
		}
	})
}

func TestRequestsBeforeTheGreetingEndTheConnection(t *testing.T) {
	s := newServer(-1)
	for op := range uint8(20) {
		_, err := s.ask(op, nil)
		require.ErrorIs(t, err, protocol.ErrFrame, op)
	}
}

// serve runs a worker without a token on one end of a socket pair.
func serve(t *testing.T) (ours int, ended <-chan error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- Serve(fds[1]) }()
	t.Cleanup(func() {
		require.NoError(t, unix.Close(fds[1]))
	})
	return fds[0], done
}

func wait(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the worker goes on")
		return nil
	}
}

func TestServeEndsWithItsParentOrAtTheFirstForeignByte(t *testing.T) {
	ours, ended := serve(t)
	require.NoError(t, unix.Close(ours))
	require.NoError(t, wait(t, ended))

	for name, bytes := range map[string]string{
		"a length too large": "\xff\xff\xff\xff", "a length too small": "\x00\x00\x00\x04----",
		"another protocol": "GET / HTTP/1.1\r\n\r\n", "an operation without a greeting": "\x00\x00\x00\x05\x00\x00\x00\x01\x05",
	} {
		t.Run(name, func(t *testing.T) {
			ours, ended := serve(t)
			_, err := unix.Write(ours, []byte(bytes))
			require.NoError(t, err)
			require.ErrorIs(t, wait(t, ended), protocol.ErrFrame)
			require.NoError(t, unix.Close(ours))
		})
	}
}

func TestFramesMayArriveInAnyPortions(t *testing.T) {
	ours, ended := serve(t)
	const n = 3
	var all []byte
	for id := range uint32(n) {
		at := len(all)
		all = protocol.Begin(all, protocol.Head{ID: id, Code: protocol.OpHello})
		// Larger than the first buffer, so that it must grow.
		all = (&protocol.Hello{Module: "/" + string(make([]byte, 20<<10))}).Append(all)
		require.NoError(t, protocol.Finish(all, at))
	}
	go func() {
		for len(all) > 0 {
			k := min(len(all), 4097)
			if _, err := unix.Write(ours, all[:k]); err != nil {
				return
			}
			all = all[k:]
		}
	}()
	var got []byte
	buf := make([]byte, 4096)
	for want := uint32(0); want < n; {
		k, err := unix.Read(ours, buf)
		require.NoError(t, err)
		require.Positive(t, k)
		got = append(got, buf[:k]...)
		for {
			f, ok, err := protocol.Next(got)
			require.NoError(t, err)
			if !ok {
				break
			}
			require.Equal(t, want, f.ID)
			require.Equal(t, protocol.StatusFailed, f.Code)
			var failure protocol.Failure
			require.NoError(t, failure.Parse(f.Body))
			require.Equal(t, protocol.ReasonModule, failure.Reason)
			got = got[f.Size:]
			want++
		}
	}
	require.NoError(t, unix.Close(ours))
	require.NoError(t, wait(t, ended))
}

// lanesAt runs a worker whose lanes follow its common socket, and greets it. It
// returns our ends, the common one first.
func lanesAt(t *testing.T, first, n int, greet uint32) (ours []int, ended <-chan error) {
	t.Helper()
	for i := range 1 + n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Dup3(fds[1], first+i, unix.O_CLOEXEC))
		require.NoError(t, unix.Close(fds[1]))
		ours = append(ours, fds[0])
	}
	done := make(chan error, 1)
	s := newServer(first)
	tok := loggedIn(t).tok
	_, err := s.lanes(n + 1)
	require.ErrorIs(t, err, protocol.ErrFrame, "one more than there are")
	_, err = s.lanes(protocol.MaxLanes + 1)
	require.ErrorIs(t, err, protocol.ErrFrame)
	lanes, err := s.lanes(int(greet))
	require.NoError(t, err)
	s.tok = tok
	for i := range lanes {
		go s.serveLane(&lanes[i])
	}
	go s.loop()
	go func() { done <- <-s.done }()
	t.Cleanup(func() {
		for i, fd := range ours {
			_ = unix.Close(fd)
			_ = unix.Close(first + i)
		}
	})
	return ours, done
}

// exchange sends one frame and returns the bytes of one answer.
func exchange(t *testing.T, fd int, op protocol.Op, body []byte) protocol.Frame {
	t.Helper()
	b := append(protocol.Begin(nil, protocol.Head{ID: 9, Code: op}), body...)
	require.NoError(t, protocol.Finish(b, 0))
	_, err := unix.Write(fd, b)
	require.NoError(t, err)
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	require.NoError(t, err)
	f, ok, err := protocol.Next(buf[:n])
	require.NoError(t, err)
	require.True(t, ok)
	return f
}

func TestLanesCarryOperationsWithKeysOnly(t *testing.T) {
	key := protocol.Key{Label: "no such key", Class: protocol.ClassSecret, Type: protocol.TypeAES}
	use := protocol.Use{Key: key.Append(nil), Mechanism: protocol.MechSHA512HMAC, Data: []byte("data")}
	for op, first := range map[protocol.Op]int{protocol.OpList: 700, protocol.OpHello: 710, protocol.OpLogin: 720, protocol.OpMAC | protocol.Here: 730} {
		ours, ended := lanesAt(t, first, 2, 2)
		for _, fd := range ours {
			f := exchange(t, fd, protocol.OpMAC, use.Append(nil))
			require.Equal(t, protocol.StatusFailed, f.Code&^protocol.Slow)
			require.EqualValues(t, 9, f.ID)
		}
		b := protocol.Begin(nil, protocol.Head{ID: 1, Code: op})
		require.NoError(t, protocol.Finish(b, 0))
		_, err := unix.Write(ours[2], b)
		require.NoError(t, err)
		require.ErrorIs(t, wait(t, ended), protocol.ErrFrame, op)
	}
}

func TestWorkerGivesWayWhenMemoryIsShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oom_score_adj")
	for before, after := range map[string]string{"-500\n": "0", "0\n": "0\n", "200\n": "200\n", "what\n": "what\n"} {
		require.NoError(t, os.WriteFile(path, []byte(before), 0o600))
		giveWay(path)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, after, string(b))
	}
	giveWay(filepath.Join(t.TempDir(), "none"))
}
