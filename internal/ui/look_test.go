package ui

import (
	"bytes"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	cssColour = regexp.MustCompile(`--([a-z-]+):\s*(#[0-9a-f]{6})\s*[;}]`)
	cssPairs  = [][2]string{
		{"ink", "paper"}, {"ink", "sheet"}, {"soft", "paper"}, {"soft", "sheet"}, {"on-brand", "brand"}, {"on-brand", "brand-deep"}, {"on-stage", "stage"},
		{"ink", "pressed"}, {"ink", "brand-tint"}, {"off-ink", "off-paper"}, {"notice-ink", "notice-paper"}, {"failed-ink", "sheet"},
		{"queued-ink", "queued-paper"}, {"doubt-ink", "doubt-paper"}, {"waiting-ink", "waiting-paper"}, {"working-ink", "working-paper"},
		{"done-ink", "done-paper"}, {"failed-ink", "failed-paper"}, {"nothing-ink", "nothing-paper"}, {"halted-ink", "halted-paper"},
	}
	// Signs, edges and rings need 3:1 (WCAG 2.2, 1.4.11).
	cssEdges = [][2]string{{"edge", "paper"}, {"edge", "sheet"}, {"focus", "sheet"}, {"focus", "paper"}, {"brand-ink", "brand-tint"}, {"brand-ink", "sheet"}, {"brand-edge", "paper"}, {"accent", "stage"}}
)

func rgb(t *testing.T, s string) colour {
	t.Helper()
	c, err := parseColour(s, "")
	require.NoError(t, err)
	return c
}

// Every pair of colours of both themes, under the darkest, lightest and usual of brands.
func TestColoursHaveContrast(t *testing.T) {
	css, err := os.ReadFile("page/theme.css")
	require.NoError(t, err)
	light, dark, found := strings.Cut(string(css), `:root[data-theme="contrast"]`)
	require.True(t, found)
	for _, look := range []Look{{}, {Colour: "#000000"}, {Colour: "#ffd500", Accent: "#8a1c00"}, {Colour: "#7a0019"}, {Colour: "#f2f2f2", Accent: "#0b4f6c"}} {
		sheet, err := look.paint(4)
		require.NoError(t, err)
		colours := map[string]string{}
		for _, part := range []struct{ name, css string }{{"light", light + sheet}, {"contrast", dark}} {
			for _, m := range cssColour.FindAllStringSubmatch(part.css, -1) {
				colours[m[1]] = m[2]
			}
			for want, pairs := range map[float64][][2]string{textContrast: cssPairs, edgeContrast: cssEdges} {
				for _, p := range pairs {
					if part.name == "contrast" && (p[0] == "accent" || p[0] == "brand-edge") {
						continue // both are the bank's only in the light theme
					}
					require.Contains(t, colours, p[0])
					require.Contains(t, colours, p[1])
					ratio := contrast(rgb(t, colours[p[0]]), rgb(t, colours[p[1]]))
					require.GreaterOrEqual(t, ratio, want, "%s, %v: %s on %s is only %.2f:1", part.name, look, p[0], p[1], ratio)
				}
			}
		}
	}
}

func TestContrastIsThatOfWCAG(t *testing.T) {
	require.InDelta(t, 21, contrast(colour{}, white), 0.001)
	require.InDelta(t, 4.54, contrast(colour{0x76, 0x76, 0x76}, white), 0.01)
	require.InDelta(t, 1, contrast(ink, ink), 0.001)
}

func TestLooksThatNobodyCouldReadAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
		return p
	}
	var picture bytes.Buffer
	require.NoError(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 30, 10))))
	good := `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><defs><path id="a" d="M0 0h9v9z"/></defs><use href="#a"/></svg>`
	for _, c := range []struct {
		name string
		look Look
		part string // empty: accepted
		say  string
	}{
		{"defaults", Look{}, "", ""},
		{"a light brand", Look{Colour: "#ffd500", Accent: "#8a1c00"}, "", ""},
		{"a PNG", Look{LogoFile: file("a.png", picture.String())}, "", ""},
		{"an SVG", Look{LogoFile: file("a.svg", good)}, "", ""},
		{"no colour", Look{Colour: "teal"}, "colour", "is no colour"},
		{"short colour", Look{Colour: "#fff"}, "colour", "is no colour"},
		{"middling colour", Look{Colour: "#e87722"}, "colour", "take a darker one such as #"},
		{"accent like the colour", Look{Accent: "#0b4f6d"}, "accent", "cannot be told from"},
		{"missing file", Look{LogoFile: filepath.Join(dir, "none")}, "logo", "no such file"},
		{"text", Look{LogoFile: file("t.svg", "Bank")}, "logo", "neither PNG nor SVG"},
		{"broken PNG", Look{LogoFile: file("b.png", "\x89PNG\r\n\x1a\nxx")}, "logo", "cannot be read as PNG"},
		{"too large", Look{LogoFile: file("l.svg", good+strings.Repeat(" ", maxLogo))}, "logo", "larger than 64 KiB"},
		{"a script", Look{LogoFile: file("s.svg", `<svg><script>1</script></svg>`)}, "logo", "contains <script>"},
		{"a handler", Look{LogoFile: file("h.svg", `<svg onload="1"/>`)}, "logo", "onload"},
		{"a reference", Look{LogoFile: file("r.svg", `<svg xmlns:x="http://www.w3.org/1999/xlink"><use x:href="http://a.example/"/></svg>`)}, "logo", "href"},
		{"a style that fetches", Look{LogoFile: file("u.svg", `<svg fill="url(http://a.example/)"/>`)}, "logo", "url("},
		{"entities", Look{LogoFile: file("e.svg", `<!DOCTYPE svg [<!ENTITY a "b">]><svg/>`)}, "logo", "declares entities"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.look.Check()
			if c.part == "" {
				require.NoError(t, err)
				return
			}
			var le *LookError
			require.ErrorAs(t, err, &le)
			require.Equal(t, c.part, le.Part)
			require.ErrorContains(t, err, c.say)
			require.NotEmpty(t, le.Hint)
			_, err = New(Options{Addr: "127.0.0.1:1", Brand: "B", PxPerMM: 4, Look: c.look})
			require.ErrorAs(t, err, &le, "the server does not start with it either")
		})
	}
}

// What is suggested in place of a colour is one that would be taken.
func TestSuggestedColoursAreReadable(t *testing.T) {
	for _, c := range []string{"#e87722", "#808080", "#00a3e0", "#ff0000", "#6f9a3e"} {
		var le *LookError
		require.ErrorAs(t, Look{Colour: c}.Check(), &le, c)
		suggested := regexp.MustCompile(`#[0-9a-f]{6}`).FindAllString(le.Hint, -1)
		require.Len(t, suggested, 2)
		for _, s := range suggested {
			require.NoError(t, Look{Colour: s, Accent: map[bool]string{true: "#ffffff", false: "#000000"}[contrast(rgb(t, s), white) > 4]}.Check(), s)
		}
	}
}

// TestPageIsSmall loads what a page loads before it is ready, as a browser does,
// and counts the bytes of the bodies.
func TestPageIsSmall(t *testing.T) {
	a, err := loadAssets("Bank", Look{}, 4.03, Timeouts{}.withDefaults())
	require.NoError(t, err)
	s := &Server{host: "127.0.0.1:1", assets: a}
	total, wide := 0, 0
	for address := range a.files {
		if strings.HasPrefix(address, "/sounds/") || strings.HasPrefix(address, "/speech/") || strings.HasSuffix(address, ".txt") {
			continue
		}
		for _, coding := range []string{"gzip", ""} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
			require.NoError(t, err)
			r.Host = s.host
			r.Header.Set("Accept-Encoding", coding)
			w := &record{header: http.Header{}}
			s.serveHTTP(w, r)
			require.Equal(t, a.files[address].kind, w.header.Get("Content-Type"))
			if coding == "" {
				require.Empty(t, w.header.Get("Content-Encoding"))
				require.Equal(t, a.files[address].body, w.body.Bytes())
				wide += w.body.Len()
			} else {
				total += w.body.Len()
			}
		}
	}
	t.Logf("page: %d bytes compressed, %d not", total, wide)
	require.Less(t, total, 150<<10)
	require.Greater(t, total, 20<<10, "something is missing")
}

// record is an http.ResponseWriter that keeps what it gets.
type record struct {
	header http.Header
	body   bytes.Buffer
}

func (r *record) Header() http.Header         { return r.header }
func (r *record) WriteHeader(int)             {}
func (r *record) Write(b []byte) (int, error) { return r.body.Write(b) }

var _ io.Writer = (*record)(nil)
