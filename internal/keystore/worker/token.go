package worker

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/binary"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// token is one logged-in module instance. It is never renewed: what a new
// session cannot mend, the keystore mends with a new worker.
type token struct {
	ctx  *pkcs11.Ctx
	slot uint
	info protocol.Token
	// keep is the session that C_Login ran in. It is used for nothing else and
	// never closed, because the end of the last session logs out.
	keep pkcs11.SessionHandle

	pool sessions
	keys keys
}

// load opens the module, chooses the token and opens the session that stays.
func load(m *protocol.Hello) (*token, error) {
	ctx, err := open(m.Module)
	if err != nil {
		return nil, err
	}
	var opts []pkcs11.InitializeOption
	if m.InitReserved != "" {
		// The module may keep the pointer, so it is never freed.
		opts = append(opts, pkcs11.InitializeWithReserved(unsafe.Pointer(C.CString(m.InitReserved))))
	}
	if err := ctx.Initialize(opts...); err != nil {
		err = failed("C_Initialize", err)
		if because(err) == protocol.ReasonUnsupported { // it did not like what it was given
			return nil, fail(protocol.ReasonModule, "%v", err)
		}
		// The daemon or the storage behind it is not there, or will be later.
		return nil, fail(protocol.ReasonDevice, "%v", err)
	}
	t := &token{ctx: ctx}
	if err := t.choose(m); err != nil {
		return nil, err
	}
	if t.keep, err = ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return nil, failed("C_OpenSession", err)
	}
	t.pool.init(t, int(m.Sessions))
	return t, nil
}

// open is pkcs11.New with the loader's own words when it fails.
func open(module string) (*pkcs11.Ctx, error) {
	// dlerror speaks of the calling thread's last failure.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	C.dlerror()
	if ctx := pkcs11.New(module); ctx != nil {
		return ctx, nil
	}
	why := "it has no C_GetFunctionList"
	if s := C.dlerror(); s != nil {
		why = C.GoString(s)
	}
	return nil, fail(protocol.ReasonModule, "%s", why)
}

func (t *token) choose(m *protocol.Hello) error {
	slots, err := t.ctx.GetSlotList(true)
	if err != nil {
		return failed("C_GetSlotList", err)
	}
	found := 0
	for _, slot := range slots {
		i, err := t.ctx.GetTokenInfo(slot)
		if err != nil || i.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue // another slot's trouble is none of ours
		}
		info := describeToken(i)
		if !matches(m.Label, info.Label) || !matches(m.Serial, info.Serial) ||
			!matches(m.Manufacturer, info.Manufacturer) || !matches(m.Model, info.Model) {
			continue
		}
		found++
		t.slot, t.info = slot, info
	}
	switch {
	case found == 0:
		return fail(protocol.ReasonTokenAbsent, "none of the module's %d slots holds it", len(slots))
	case found > 1:
		return fail(protocol.ReasonTokenMany, "%d tokens match", found)
	}
	if i, err := t.ctx.GetInfo(); err == nil {
		t.info.Library = trim(i.LibraryDescription)
	}
	return t.readMechanisms()
}

func matches(want, have string) bool { return want == "" || want == have }

// trim takes off what tokens pad their fixed fields with.
func trim(s string) string { return strings.TrimRight(s, " \x00") }

func describeToken(i pkcs11.TokenInfo) protocol.Token {
	info := protocol.Token{
		Label: trim(i.Label), Serial: trim(i.SerialNumber),
		Manufacturer: trim(i.ManufacturerID), Model: trim(i.Model),
		MinPIN: uint32(i.MinPinLen), MaxPIN: uint32(i.MaxPinLen),
	}
	if i.MaxPinLen >= 1<<31 { // CK_EFFECTIVELY_INFINITE or "unavailable"
		info.MaxPIN = 0
	}
	for theirs, ours := range map[uint]protocol.TokenFlag{
		pkcs11.CKF_LOGIN_REQUIRED:         protocol.TokenLoginRequired,
		pkcs11.CKF_USER_PIN_COUNT_LOW:     protocol.TokenPINLow,
		pkcs11.CKF_USER_PIN_FINAL_TRY:     protocol.TokenPINFinalTry,
		pkcs11.CKF_USER_PIN_LOCKED:        protocol.TokenPINLocked,
		pkcs11.CKF_USER_PIN_TO_BE_CHANGED: protocol.TokenPINChange,
	} {
		if i.Flags&theirs != 0 {
			info.Flags |= ours
		}
	}
	return info
}

func (t *token) readMechanisms() error {
	list, err := t.ctx.GetMechanismList(t.slot)
	if err != nil {
		return failed("C_GetMechanismList", err)
	}
	for _, m := range list {
		i, err := t.ctx.GetMechanismInfo(t.slot, []*pkcs11.Mechanism{m})
		if err != nil {
			continue // some tokens list what they then do not know
		}
		t.info.Mechanisms = append(t.info.Mechanisms, protocol.MechanismInfo{
			Type: uint64(m.Mechanism), Flags: uint64(i.Flags), MinKey: uint64(i.MinKeySize), MaxKey: uint64(i.MaxKeySize),
		})
	}
	return nil
}

func (t *token) has(mechanism uint) bool {
	for _, m := range t.info.Mechanisms {
		if m.Type == uint64(mechanism) {
			return true
		}
	}
	return false
}

// login answers with 1 when the token accepted the PIN, with 0 when it said that
// someone is logged in already, which it says to a wrong PIN too.
func (t *token) login(out, pin []byte) ([]byte, error) {
	defer clear(pin)
	// A string of its own could not be cleared.
	err := t.ctx.Login(t.keep, pkcs11.CKU_USER, unsafe.String(unsafe.SliceData(pin), len(pin)))
	switch {
	case err == nil:
		return append(out, 1), nil
	case err == pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN): //nolint:errorlint // the module's own value, never wrapped
		return append(out, 0), nil
	}
	return nil, failed("C_Login", err)
}

// sessions is a small pool that opens a session when one is needed. Some devices
// have 16 in all.
type sessions struct {
	t    *token
	room chan struct{} // one element per session in use

	mu   sync.Mutex // guards free
	free []pkcs11.SessionHandle
}

func (p *sessions) init(t *token, limit int) {
	p.t = t
	p.room = make(chan struct{}, min(max(limit, 1), 16))
}

// with runs f in a session that nobody else uses, and keeps the session only
// when f returned no error: a failed operation may still be active in it.
func (p *sessions) with(f func(pkcs11.SessionHandle) error) error {
	p.room <- struct{}{}
	defer func() { <-p.room }()
	sh, err := p.take()
	if err != nil {
		return err
	}
	if err := f(sh); err != nil {
		_ = p.t.ctx.CloseSession(sh)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, sh)
	return nil
}

func (p *sessions) take() (pkcs11.SessionHandle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		sh := p.free[n-1]
		p.free = p.free[:n-1]
		return sh, nil
	}
	sh, err := p.t.ctx.OpenSession(p.t.slot, pkcs11.CKF_SERIAL_SESSION)
	return sh, failed("C_OpenSession", err)
}

// drop closes the sessions that are not in use, so that the next one is new.
func (p *sessions) drop() {
	p.mu.Lock()
	free := p.free
	p.free = nil
	p.mu.Unlock()
	for _, sh := range free {
		_ = p.t.ctx.CloseSession(sh)
	}
}

// ceremony runs f in a read-write session of its own.
func (t *token) ceremony(f func(pkcs11.SessionHandle) error) error {
	sh, err := t.ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return failed("C_OpenSession", err)
	}
	defer func() { _ = t.ctx.CloseSession(sh) }()
	return f(sh)
}

// ulong reads a CK_ULONG attribute; absent is 0, false.
func ulong(b []byte) (uint, bool) {
	switch len(b) {
	case 8:
		return uint(binary.NativeEndian.Uint64(b)), true
	case 4:
		return uint(binary.NativeEndian.Uint32(b)), true
	}
	return 0, false
}
