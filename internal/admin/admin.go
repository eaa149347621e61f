// Package admin is the Unix socket by which the gardu commands reach the running
// agent.
//
// Trust: the kernel says who is at the other end (SO_PEERCRED), and nothing that
// is sent over the socket is believed about it. Root, the agent's own user and
// members of the operators' group may use every verb; the kiosk's user may only
// ask for a screen ticket; everybody else is refused before their request is read.
//
// Wire: the client writes one JSON object {"verb", "args"} and a newline, the
// agent answers one JSON object {"ok", "data", "error", "hint", "kind"} and a newline,
// and the connection is closed. Either side gives up after a deadline; a request is
// at most 64 KiB.
package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxRequest = 64 << 10
	patience   = 45 * time.Second // longer than a call to a provider, which a verb may make
	firstLine  = 5 * time.Second  // for the request; who only holds a connection open is let go
	maxConns   = 32               // at a time; others wait in the kernel's queue
	acceptRest = 100 * time.Millisecond
)

// Peer is who is at the other end, by the kernel's word.
type Peer struct {
	UID  uint32 `json:"uid"`
	PID  int32  `json:"pid"`
	Name string `json:"name"` // the user's name, or its number
}

// Access says who may use a verb.
type Access int

// The classes of access.
const (
	Operators Access = iota // root, the agent's user, members of the operators' group
	Screen                  // these and the kiosk's user
)

// Verb is one thing that can be asked for.
type Verb struct {
	Access Access
	Do     func(ctx context.Context, args json.RawMessage, who Peer) (any, error)
}

// Hinted is an error that knows what to do about it.
type Hinted interface{ Hint() string }

// Kinded is an error that knows which kind it is, so that the command can end with
// a code of its own.
type Kinded interface{ Kind() string }

// Options say where the socket is and who may use it.
type Options struct {
	Path      string
	Group     string // operators' group; where it does not exist only root and the agent's user are operators
	KioskUser string // may ask for screen tickets; empty: nobody
	Verbs     map[string]Verb
	Log       *slog.Logger
}

// Server answers on the socket.
type Server struct {
	o     Options
	l     *net.UnixListener
	work  sync.WaitGroup
	slots chan struct{}
}

type request struct {
	Verb string          `json:"verb"`
	Args json.RawMessage `json:"args,omitempty"`
}

type reply struct {
	OK    bool            `json:"ok"`
	Data  json.RawMessage `json:"data,omitempty"`
	Error string          `json:"error,omitempty"`
	Hint  string          `json:"hint,omitempty"`
	Kind  string          `json:"kind,omitempty"`
}

// Listen makes the socket. A socket file that nobody answers on is a leftover and
// is replaced; one that is answered belongs to another agent and is an error.
func Listen(o Options) (*Server, error) {
	if st, err := os.Lstat(o.Path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("admin socket %s: there is something else at that path; move it away", o.Path)
		}
		d := net.Dialer{Timeout: time.Second}
		if c, err := d.Dial("unix", o.Path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("admin socket %s: another agent answers there; stop that one first", o.Path)
		}
		if err := os.Remove(o.Path); err != nil {
			return nil, fmt.Errorf("remove the leftover admin socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.Path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the admin socket: %w", err)
	}
	if err := os.Chmod(o.Path, 0o666); err != nil { //nolint:gosec // G302: everybody may connect; the peer's credentials decide
		_ = l.Close()
		return nil, fmt.Errorf("open the admin socket to other users: %w", err)
	}
	return &Server{o: o, l: l, slots: make(chan struct{}, maxConns)}, nil
}

// Serve answers until ctx ends, then waits for the answers under way.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.l.Close() })
	defer stop()
	defer s.work.Wait()
	for {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := s.l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case err != nil && scarce(err):
			// Out of descriptors or memory for the moment: that is no reason to end the agent.
			s.o.Log.Warn("admin connection not accepted", "error", err)
			<-s.slots
			select {
			case <-time.After(acceptRest):
			case <-ctx.Done():
			}
			continue
		case err != nil:
			return fmt.Errorf("accept on the admin socket: %w", err)
		}
		s.work.Go(func() {
			defer func() { <-s.slots }()
			s.serve(ctx, c)
		})
	}
}

// scarce reports whether an accept failed for want of something that others will
// give back.
func scarce(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) serve(ctx context.Context, c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	who, access, err := s.peer(c)
	if err != nil {
		s.o.Log.Warn("admin connection refused", "uid", who.UID, "error", err)
		s.answer(c, reply{Error: err.Error(), Hint: "run it as root or as a member of group " + s.o.Group})
		return
	}
	// Not before: what looks users up may take its time, which is not the client's.
	_ = c.SetReadDeadline(time.Now().Add(firstLine))
	data, err := s.do(ctx, c, who, access)
	if err != nil {
		r := reply{Error: err.Error()}
		var h Hinted
		if errors.As(err, &h) {
			r.Hint = h.Hint()
		}
		var k Kinded
		if errors.As(err, &k) {
			r.Kind = k.Kind()
		}
		s.answer(c, r)
		return
	}
	s.answer(c, reply{OK: true, Data: data})
}

func (s *Server) do(ctx context.Context, c net.Conn, who Peer, access Access) (json.RawMessage, error) {
	line, err := bufio.NewReader(io.LimitReader(c, maxRequest)).ReadBytes('\n')
	if err != nil {
		return nil, errors.New("the request is not one line of at most 64 KiB")
	}
	var q request
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return nil, errors.New("the request is not the JSON object this agent understands; use the gardu command of the same version")
	}
	v, ok := s.o.Verbs[q.Verb]
	if !ok {
		return nil, fmt.Errorf("this agent does not know the verb %q; use the gardu command of the same version", q.Verb)
	}
	if access > v.Access {
		return nil, fmt.Errorf("user %s may only ask for a screen ticket", who.Name)
	}
	s.o.Log.Info("admin request", "verb", q.Verb, "user", who.Name, "uid", who.UID, "pid", who.PID)
	out, err := v.Do(ctx, q.Args, who)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// peer finds out who it is and what they may do.
func (s *Server) peer(c *net.UnixConn) (Peer, Access, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, 0, fmt.Errorf("ask the kernel who it is: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return Peer{}, 0, fmt.Errorf("ask the kernel who it is: %w", errors.Join(err, credErr))
	}
	who := Peer{UID: cred.Uid, PID: cred.Pid, Name: strconv.FormatUint(uint64(cred.Uid), 10)}
	u, lookup := user.LookupId(who.Name)
	if lookup == nil {
		who.Name = u.Username
	}
	switch {
	case cred.Uid == 0, int(cred.Uid) == os.Geteuid(), lookup == nil && s.operator(u):
		return who, Operators, nil
	case s.o.KioskUser != "" && who.Name == s.o.KioskUser:
		return who, Screen, nil
	}
	return who, Screen, fmt.Errorf("user %s may not use this socket", who.Name)
}

func (s *Server) operator(u *user.User) bool {
	g, err := user.LookupGroup(s.o.Group)
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	if err != nil {
		return false
	}
	for _, id := range ids {
		if id == g.Gid {
			return true
		}
	}
	return false
}

func (s *Server) answer(c net.Conn, r reply) {
	b, err := json.Marshal(r)
	if err != nil {
		b = []byte(`{"ok":false,"error":"the answer could not be written"}`)
	}
	_, _ = c.Write(append(b, '\n'))
}

// AskError is what the agent answered instead of data.
type AskError struct {
	Message string
	Advice  string
	Kind    string // of Kinded; may be empty
}

func (e *AskError) Error() string {
	if e.Advice != "" {
		return e.Message + "; " + e.Advice
	}
	return e.Message
}

// ErrNotRunning says that nobody answers on the socket.
var ErrNotRunning = errors.New("the agent is not running")

// Ask sends one request to the agent at path and decodes its data into dst, which
// may be nil. Errors: ErrNotRunning, *AskError, others.
func Ask(ctx context.Context, path, verb string, args, dst any) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("%w (socket %s)", ErrNotRunning, path)
		}
		return fmt.Errorf("connect to the agent: %w", err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	q := request{Verb: verb}
	if args != nil {
		if q.Args, err = json.Marshal(args); err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
	}
	b, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	_, sent := c.Write(append(b, '\n'))
	var r reply
	// Who is refused is told before their request is read, so a failed write may
	// have an answer all the same.
	if err := json.NewDecoder(bufio.NewReader(c)).Decode(&r); err != nil {
		return fmt.Errorf("speak with the agent: %w", errors.Join(sent, err))
	}
	if !r.OK {
		return &AskError{r.Error, r.Hint, r.Kind}
	}
	if dst == nil {
		return nil
	}
	if err := json.Unmarshal(r.Data, dst); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}
