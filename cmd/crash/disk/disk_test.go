package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// imageOf makes an image of so many sectors, each full of its own number.
func imageOf(t *testing.T, sectors int) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	var b []byte
	for i := range sectors {
		b = append(b, bytes.Repeat([]byte{byte(i)}, sector)...)
	}
	require.NoError(t, os.WriteFile(image, b, 0o600))
	return image
}

func openCache(t *testing.T, image string) *cache {
	t.Helper()
	c, err := newCache(image)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	return c
}

func TestCacheReadsWhatWasWritten(t *testing.T) {
	image := imageOf(t, 8)
	c := openCache(t, image)
	model, err := os.ReadFile(image)
	require.NoError(t, err)
	dice := rand.New(rand.NewPCG(1, 2))
	for i := range 500 {
		off := dice.IntN(len(model) - 1)
		p := make([]byte, 1+dice.IntN(min(1500, len(model)-off)))
		switch dice.IntN(5) {
		case 0:
			require.NoError(t, c.flush())
		case 1, 2:
			for j := range p {
				p[j] = byte(i)
			}
			require.NoError(t, c.write(p, int64(off)))
			copy(model[off:], p)
		default:
			require.NoError(t, c.read(p, int64(off)))
			require.Equal(t, model[off:off+len(p)], p, "after %d steps", i)
		}
	}
	require.NoError(t, c.flush())
	onDisk, err := os.ReadFile(image)
	require.NoError(t, err)
	require.Equal(t, model, onDisk)
}

func TestCutKeepsWhatWasFlushedAndTearsTheRest(t *testing.T) {
	for name, tc := range map[string]struct {
		choose func(int) int
		want   []byte // first byte of each sector
	}{
		"nothing":      {func(int) int { return 0 }, []byte{10, 1, 2, 3}},
		"everything":   {func(n int) int { return n - 1 }, []byte{10, 30, 30, 3}},
		"an older one": {func(n int) int { return min(1, n-1) }, []byte{10, 20, 30, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			image := imageOf(t, 4)
			c := openCache(t, image)
			require.NoError(t, c.write([]byte{10}, 0))
			require.NoError(t, c.flush())
			require.NoError(t, c.write([]byte{20}, sector))
			require.NoError(t, c.write(bytes.Repeat([]byte{30}, 2*sector), sector))
			require.NoError(t, c.cut(tc.choose))
			require.ErrorIs(t, c.write([]byte{40}, 0), errNoPower)
			require.ErrorIs(t, c.flush(), errNoPower)
			require.ErrorIs(t, c.read(make([]byte, 1), 0), errNoPower)
			b, err := os.ReadFile(image)
			require.NoError(t, err)
			for i, want := range tc.want {
				require.Equal(t, want, b[i*sector], "sector %d", i)
			}
		})
	}
}

func TestSickDiskKeepsNothing(t *testing.T) {
	image := imageOf(t, 2)
	c := openCache(t, image)
	require.NoError(t, c.write([]byte{10}, 0))
	c.fail(true)
	require.ErrorIs(t, c.write([]byte{20}, 0), errSick)
	require.ErrorIs(t, c.flush(), errSick)
	p := make([]byte, 1)
	require.NoError(t, c.read(p, 0))
	require.Equal(t, []byte{10}, p)
	c.fail(false)
	require.NoError(t, c.flush())
	b, err := os.ReadFile(image)
	require.NoError(t, err)
	require.Equal(t, byte(10), b[0])
}

// TestPowerCut writes one file with a sync and one without, on each kind of disk.
func TestPowerCut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("there are no loop devices here")
	}
	for name, open := range map[string]func(string) (Power, error){
		"ext4": func(dir string) (Power, error) { return NewExt4(dir) },
		"volatile": func(dir string) (Power, error) {
			if _, err := os.Stat("/dev/fuse"); err != nil {
				t.Skip("there is no FUSE here")
			}
			return NewVolatile(dir, func(int) int { return 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := open(t.TempDir())
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Close()) })
			text := bytes.Repeat([]byte("kept "), 10_000)
			put(t, d.Dir(), "synced", text, true)
			put(t, d.Dir(), "unsynced", text, false)
			require.NoError(t, d.Cut())
			require.Error(t, putSynced(d.Dir(), "later"))
			require.NoError(t, d.Restore())
			b, err := os.ReadFile(filepath.Join(d.Dir(), "synced"))
			require.NoError(t, err)
			require.Equal(t, text, b)
			b, err = os.ReadFile(filepath.Join(d.Dir(), "unsynced"))
			if err == nil {
				require.NotEqual(t, text, b, "nothing was lost, so nothing was cut")
			}
			put(t, d.Dir(), "after", text, true)
		})
	}
}

func put(t *testing.T, dir, name string, text []byte, synced bool) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	require.NoError(t, err)
	_, err = f.Write(text)
	require.NoError(t, err)
	if synced {
		require.NoError(t, f.Sync())
		d, err := os.Open(dir)
		require.NoError(t, err)
		require.NoError(t, d.Sync())
		require.NoError(t, d.Close())
	}
	require.NoError(t, f.Close())
}

// putSynced says whether a file can still be brought to the disk.
func putSynced(dir, name string) error {
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	_, err = f.WriteString("late")
	return errors.Join(err, f.Sync(), f.Close())
}

func TestSmallDiskIsFullAndFreeAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	d, err := NewSmall(filepath.Join(t.TempDir(), "small"), 1<<20)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.Fill())
	file := filepath.Join(d.dir, "ours")
	require.ErrorIs(t, os.WriteFile(file, make([]byte, 8192), 0o600), unix.ENOSPC)
	require.NoError(t, d.Free())
	require.NoError(t, d.Free())
	require.NoError(t, os.WriteFile(file, make([]byte, 8192), 0o600))
}
