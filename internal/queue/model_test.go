package queue_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/queue"
	"gardu/internal/txn"
)

// modelled is what a plain map knows of a request and its secret.
type modelled struct {
	request *txn.Request
	secret  string
}

// model is a journal kept in a map, beside the real one.
type model struct {
	t       *testing.T
	rnd     *rand.Rand
	opt     queue.Options
	db      *queue.DB
	want    map[uint64]modelled
	serials map[uint64]bool
	highest uint64
}

func TestRandomOperationsAgainstAMap(t *testing.T) {
	t.Parallel()
	seed := uint64(20260504)
	if s := os.Getenv("GARDU_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("GARDU_SEED=%d", seed)
	opt := quickOptions(t)
	opt.MaxItems = 60
	opt = opt.WithKeys(300, 0)
	m := &model{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), opt: opt, //nolint:gosec // a repeatable test wants weak randomness
		want: map[uint64]modelled{}, serials: map[uint64]bool{},
	}
	m.db = open(t, opt)
	for range 5000 {
		switch n := m.rnd.IntN(1000); {
		case n < 300:
			m.add()
		case n < 600:
			m.update()
		case n < 800:
			m.remove()
		case n < 900:
			m.get()
		case n < 990:
			m.serial()
		case n < 994:
			m.compare()
		default:
			require.NoError(t, m.db.Close())
			m.db = open(t, opt)
			m.compare()
		}
	}
	m.compare()
}

func (m *model) any() (uint64, bool) {
	if len(m.want) == 0 {
		return 0, false
	}
	return slices.Sorted(maps.Keys(m.want))[m.rnd.IntN(len(m.want))], true
}

func (m *model) digits() string { return strconv.Itoa(100_000 + m.rnd.IntN(900_000)) }

func (m *model) add() {
	r, s := request("0812"+m.digits()), ""
	var err error
	if m.rnd.IntN(2) == 0 {
		r.Secret, s = txn.SecretPIN, m.digits()
		err = m.db.Add(m.t.Context(), r, pin(s))
	} else {
		err = m.db.Add(m.t.Context(), r, nil)
	}
	if len(m.want) >= m.opt.MaxItems {
		require.ErrorIs(m.t, err, txn.ErrFull)
		return
	}
	require.NoError(m.t, err)
	require.Greater(m.t, r.Seq, m.highest, "a place is never given twice")
	m.highest = r.Seq
	m.want[r.Seq] = modelled{r.Clone(), s}
}

func (m *model) update() {
	seq, ok := m.any()
	if !ok {
		return
	}
	was := m.want[seq]
	r, s := was.request.Clone(), was.secret
	r.Tries++
	r.Data = map[string]string{"n": m.digits()}
	var err error
	switch m.rnd.IntN(3) {
	case 0: // as it is, with the secret it has
		err = m.db.Update(m.t.Context(), r, nil)
	case 1: // without a secret
		r.Secret, s = "", ""
		err = m.db.Update(m.t.Context(), r, nil)
	case 2: // with a new one
		r.Secret, s = txn.SecretOTP, m.digits()
		err = m.db.Update(m.t.Context(), r, pin(s))
	}
	require.NoError(m.t, err)
	m.want[seq] = modelled{r, s}
}

func (m *model) remove() {
	seq, ok := m.any()
	if !ok {
		return
	}
	require.NoError(m.t, m.db.Delete(m.t.Context(), []uint64{seq, m.highest + 7}))
	delete(m.want, seq)
	_, err := m.db.Get(m.t.Context(), seq)
	require.ErrorIs(m.t, err, txn.ErrNotFound)
}

func (m *model) get() {
	if seq, ok := m.any(); ok {
		m.same(seq, m.want[seq])
	}
}

func (m *model) same(seq uint64, want modelled) {
	r, err := m.db.Get(m.t.Context(), seq)
	require.NoError(m.t, err)
	require.Equal(m.t, want.request, r)
	v, err := m.db.Secret(m.t.Context(), r)
	if want.secret == "" {
		require.ErrorIs(m.t, err, txn.ErrSecretLost)
		return
	}
	require.NoError(m.t, err)
	require.Equal(m.t, want.secret, string(v.Bytes()))
}

func (m *model) serial() {
	for range 10 {
		n, err := m.db.Serial(m.t.Context())
		require.NoError(m.t, err)
		require.False(m.t, m.serials[n], "serial %d was handed out twice", n)
		m.serials[n] = true
	}
}

// compare holds everything in the journal, its counters and its key folder
// against the map.
func (m *model) compare() {
	var seqs []uint64
	require.NoError(m.t, m.db.Each(m.t.Context(), func(r *txn.Request, err error) error {
		if err != nil {
			return err
		}
		seqs = append(seqs, r.Seq)
		return nil
	}))
	require.True(m.t, slices.Equal(slices.Sorted(maps.Keys(m.want)), seqs), "records in order: %v", seqs)
	secrets := 0
	for seq, w := range m.want {
		m.same(seq, w)
		if w.secret != "" {
			secrets++
		}
	}
	require.Len(m.t, keyFiles(m.t, m.opt), secrets)
	require.Equal(m.t, len(m.want), m.db.Stats().Items)
	require.LessOrEqual(m.t, m.db.Stats().DataKeys, len(m.want)+2)
}

func TestEachMayWriteWhileItReads(t *testing.T) {
	opt := quickOptions(t)
	db := open(t, opt)
	for range 200 {
		require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
	}
	n := 0
	require.NoError(t, db.Each(t.Context(), func(r *txn.Request, err error) error {
		require.NoError(t, err)
		n++
		if r.Seq%2 == 0 {
			return db.Delete(t.Context(), []uint64{r.Seq})
		}
		r.State = txn.Sending
		return db.Update(t.Context(), r, nil)
	}))
	require.Equal(t, 200, n)
	require.Equal(t, 100, db.Stats().Items)

	stop := errors.New("stop")
	require.ErrorIs(t, db.Each(t.Context(), func(*txn.Request, error) error { return stop }), stop)
}

func TestFullRefusesOnlyNewRequests(t *testing.T) {
	for name, limit := range map[string]func(*queue.Options){
		"items": func(o *queue.Options) { o.MaxItems = 3 },
		"bytes": func(o *queue.Options) { o.MaxBytes = 3000 },
	} {
		t.Run(name, func(t *testing.T) {
			opt := options(t)
			limit(&opt)
			db := open(t, opt)
			var last *txn.Request
			var err error
			for range 20 {
				r := request("0812000001")
				r.Secret = txn.SecretPIN
				if err = db.Add(t.Context(), r, pin("1234")); err != nil {
					require.Zero(t, r.Seq)
					break
				}
				last = r
			}
			require.ErrorIs(t, err, txn.ErrFull)
			require.Len(t, keyFiles(t, opt), db.Stats().Items, "a refused request leaves no key behind")
			last.Note = "a transition always finds room"
			require.NoError(t, db.Update(t.Context(), last, nil))
			require.NoError(t, db.Delete(t.Context(), []uint64{1}))
			require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
		})
	}
}

func TestWhatCannotBeStored(t *testing.T) {
	opt := options(t)
	db := open(t, opt)
	for name, c := range map[string]struct {
		change func(*txn.Request)
		pin    string
		want   error
	}{
		"an id that names another file":    {change: func(r *txn.Request) { r.ID = "../../../../etc/shadow0000" }, want: queue.ErrInvalid},
		"an empty id":                      {change: func(r *txn.Request) { r.ID = "" }, want: queue.ErrInvalid},
		"an operation with a space":        {change: func(r *txn.Request) { r.Operation = "a b" }, want: queue.ErrInvalid},
		"a kind without a secret":          {change: func(r *txn.Request) { r.Secret = txn.SecretPIN }, want: queue.ErrInvalid},
		"a secret without a kind":          {change: func(*txn.Request) {}, pin: "1234", want: queue.ErrInvalid},
		"an unknown kind":                  {change: func(r *txn.Request) { r.Secret = "iris" }, pin: "1234", want: queue.ErrInvalid},
		"a secret that is no secret":       {change: func(r *txn.Request) { r.Secret = txn.SecretPIN }, pin: string(make([]byte, 2000)), want: queue.ErrInvalid},
		"a note of a hundred thousand":     {change: func(r *txn.Request) { r.Note = string(make([]byte, 100_000)) }, want: queue.ErrTooLarge},
		"the same with a secret beside it": {change: func(r *txn.Request) { r.Note, r.Secret = string(make([]byte, 100_000)), txn.SecretPIN }, pin: "1", want: queue.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("0812000001")
			c.change(r)
			if c.pin == "" {
				require.ErrorIs(t, db.Add(t.Context(), r, nil), c.want)
			} else {
				require.ErrorIs(t, db.Add(t.Context(), r, pin(c.pin)), c.want)
			}
			require.Zero(t, r.Seq)
		})
	}
	require.Zero(t, db.Stats().Items)
	require.Empty(t, keyFiles(t, opt))

	r := request("0812000001")
	require.NoError(t, db.Add(t.Context(), r, nil))
	r.Secret = txn.SecretPIN
	require.ErrorIs(t, db.Update(t.Context(), r, nil), queue.ErrInvalid, "there is no secret to keep")
	other := request("0812000001")
	other.Seq = r.Seq
	require.ErrorIs(t, db.Update(t.Context(), other, nil), txn.ErrNotFound, "the place belongs to another request")
}

func TestOptionsAreChecked(t *testing.T) {
	for name, spoil := range map[string]func(*queue.Options){
		"Path":     func(o *queue.Options) { o.Path = "" },
		"KeyDir":   func(o *queue.Options) { o.KeyDir = "" },
		"KEK":      func(o *queue.Options) { o.KEK = nil },
		"PINKEK":   func(o *queue.Options) { o.PINKEK = nil },
		"Kiosk":    func(o *queue.Options) { o.Kiosk = txn.MaxKiosk + 1 },
		"MaxItems": func(o *queue.Options) { o.MaxItems = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			opt := queue.Options{
				Path: filepath.Join(dir, "j"), KeyDir: filepath.Join(dir, "k"),
				KEK: newKEK(t, "a"), PINKEK: newKEK(t, "b"), Kiosk: 1,
			}
			spoil(&opt)
			_, err := queue.Open(t.Context(), opt)
			require.ErrorIs(t, err, queue.ErrInvalid)
			require.ErrorContains(t, err, name)
			require.NoFileExists(t, opt.Path)
		})
	}
}

func TestEachOpensWhatIsRewrittenWhileItReads(t *testing.T) {
	// Keys wear out and go all the time, between the copying of a page and its opening too.
	opt := quickOptions(t).WithKeys(1, time.Hour)
	opt.MaxItems = 1000
	db := open(t, opt)
	all := make([]*txn.Request, 200)
	for i := range all {
		all[i] = request("0812000001")
		require.NoError(t, db.Add(t.Context(), all[i], nil))
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for part := range 4 {
		work.Go(func() {
			for i := part; ; i = (i + 4) % len(all) {
				select {
				case <-stop:
					return
				default:
				}
				if err := db.Update(t.Context(), all[i], nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var bad []error
	for range 300 {
		n := 0
		require.NoError(t, db.Each(t.Context(), func(_ *txn.Request, err error) error {
			if err != nil {
				bad = append(bad, err)
			}
			n++
			return nil
		}))
		require.Equal(t, len(all), n)
	}
	close(stop)
	work.Wait()
	require.Empty(t, bad)
}

func TestEachOfAJournalThatIsClosedMeanwhile(t *testing.T) {
	for range 50 {
		opt := quickOptions(t)
		db := open(t, opt)
		for range 3 * 64 {
			require.NoError(t, db.Add(t.Context(), request("0812000001"), nil))
		}
		var work sync.WaitGroup
		began := make(chan struct{})
		work.Go(func() {
			first := sync.OnceFunc(func() { close(began) })
			err := db.Each(t.Context(), func(_ *txn.Request, err error) error {
				first()
				return err // a whole record must not be called broken
			})
			if err != nil && !errors.Is(err, queue.ErrDown) {
				t.Error(err)
			}
		})
		<-began
		require.NoError(t, db.Close())
		work.Wait()
	}
}
