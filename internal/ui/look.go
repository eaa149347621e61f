package ui

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	_ "image/png" // logos
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// Look is how a bank makes the screen its own. Zero fields take the defaults.
type Look struct {
	Colour   string // #rrggbb: head, stage and large buttons; #0b4f6c
	Accent   string // #rrggbb: the frame of the field that is being filled in; #f5b52e
	LogoFile string // a PNG or SVG of at most 64 KiB, shown 10 mm high on white; a house without it
	Quiet    bool   // no tones; speech that a customer starts is still heard
}

// LookError says which part of a Look cannot be used.
type LookError struct {
	Part string // "colour", "accent" or "logo"
	Err  error
	Hint string // what to do
}

func (e *LookError) Error() string { return e.Part + " " + e.Err.Error() + "; " + e.Hint }

// Unwrap returns the cause.
func (e *LookError) Unwrap() error { return e.Err }

// The contrasts that the design holds to: of text and paper (WCAG 2.2 asks 4.5 at
// AA and 7 at AAA), and of a control's edge and what lies around it.
const (
	textContrast = 7.0
	edgeContrast = 3.0
)

const maxLogo = 64 << 10

// The colours that a bank's own stand beside; theme.css has the same.
var (
	white = colour{0xff, 0xff, 0xff}
	ink   = colour{0x14, 0x21, 0x2b}
)

// Check finds out whether customers could read a screen that looks so. Every error is a *LookError.
func (l Look) Check() error {
	_, err := l.paint(1)
	if err != nil {
		return err
	}
	_, _, err = l.logo()
	return err
}

// paint writes the style sheet with the bank's colours and the screen's scale.
func (l Look) paint(pxPerMM float64) (string, error) {
	brand, err := parseColour(l.Colour, "#0b4f6c")
	if err != nil {
		return "", &LookError{"colour", err, "write it as #rrggbb, such as #0b4f6c"}
	}
	accent, err := parseColour(l.Accent, "#f5b52e")
	if err != nil {
		return "", &LookError{"accent", err, "write it as #rrggbb, such as #f5b52e"}
	}
	on, deep := white, brand.mix(colour{}, 0.25)
	switch {
	case contrast(white, brand) >= textContrast:
	case contrast(ink, brand) >= textContrast:
		on, deep = ink, brand.mix(white, 0.35)
	default:
		return "", &LookError{
			"colour", fmt.Errorf("%s is too close to both white and black: letters on it have %.1f:1 at best, and the screen needs 7:1", brand, max(contrast(white, brand), contrast(ink, brand))),
			fmt.Sprintf("take a darker one such as %s or a lighter one such as %s", brand.toward(colour{}, white), brand.toward(white, ink)),
		}
	}
	if contrast(accent, brand) < edgeContrast {
		return "", &LookError{
			"accent", fmt.Errorf("%s cannot be told from the colour %s around it: %.1f:1, and a frame needs 3:1", accent, brand, contrast(accent, brand)),
			"take one that is much lighter or much darker than the colour",
		}
	}
	sign, edge := brand, brand
	if contrast(brand, white) < textContrast {
		sign, edge = ink, ink // a light colour carries no letters and no edge on white
	}
	var b strings.Builder
	b.WriteString(":root{--mm:" + strconv.FormatFloat(pxPerMM, 'f', 3, 64) + "px")
	for _, v := range []struct {
		name string
		c    colour
	}{
		{"brand", brand},
		{"brand-deep", deep},
		{"on-brand", on},
		{"brand-ink", sign},
		{"brand-edge", edge},
		{"brand-tint", brand.mix(white, 0.92)},
		{"stage", brand},
		{"on-stage", on},
		{"accent", accent},
	} {
		b.WriteString(";--" + v.name + ":" + v.c.String())
	}
	return b.String() + "}\n", nil
}

// logo reads the picture and says of what kind it is. Without one it returns nothing.
func (l Look) logo() ([]byte, string, error) {
	if l.LogoFile == "" {
		return nil, "", nil
	}
	bad := func(err error, hint string) ([]byte, string, error) {
		return nil, "", &LookError{"logo", err, hint}
	}
	const want = "give a PNG or SVG file of at most 64 KiB"
	f, err := os.Open(l.LogoFile)
	if err != nil {
		return bad(err, want+" that the agent may read")
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxLogo+1))
	switch {
	case err != nil:
		return bad(err, want+" that the agent may read")
	case len(b) > maxLogo:
		return bad(fmt.Errorf("%s is larger than 64 KiB", l.LogoFile), want)
	}
	if bytes.HasPrefix(b, []byte("\x89PNG")) {
		c, _, err := image.DecodeConfig(bytes.NewReader(b))
		if err != nil {
			return bad(fmt.Errorf("%s cannot be read as PNG: %w", l.LogoFile, err), want)
		}
		if c.Width > 4096 || c.Height > 4096 {
			return bad(fmt.Errorf("%s has %d by %d pixels", l.LogoFile, c.Width, c.Height), "give one of at most 4096 pixels a side")
		}
		return b, "image/png", nil
	}
	if err := checkSVG(b); err != nil {
		return bad(fmt.Errorf("%s: %w", l.LogoFile, err), want+"; an SVG only with shapes of its own")
	}
	return b, "image/svg+xml", nil
}

// checkSVG lets no drawing in that does more than draw. Browsers do not run what
// is in an image, but nothing that is served needs to contain it.
func checkSVG(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	root := true
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && !root {
			return nil
		}
		if err != nil {
			return errors.New("is neither PNG nor SVG")
		}
		if dir, ok := t.(xml.Directive); ok && bytes.Contains(bytes.ToUpper(dir), []byte("ENTITY")) {
			return errors.New("declares entities")
		}
		e, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		name := strings.ToLower(e.Name.Local)
		if root && name != "svg" {
			return errors.New("is neither PNG nor SVG")
		}
		root = false
		switch name {
		case "script", "foreignobject", "iframe", "image", "a", "audio", "video":
			return fmt.Errorf("contains <%s>", e.Name.Local)
		}
		for _, a := range e.Attr {
			n, v := strings.ToLower(a.Name.Local), strings.TrimSpace(strings.ToLower(a.Value))
			if strings.HasPrefix(n, "on") || n == "href" && !strings.HasPrefix(v, "#") || strings.Contains(v, "url(") && !strings.Contains(v, "url(#") {
				return fmt.Errorf("contains the attribute %s=%q", a.Name.Local, a.Value)
			}
		}
	}
}

// colour is one of sRGB.
type colour [3]uint8

func parseColour(s, otherwise string) (colour, error) {
	if s == "" {
		s = otherwise
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "#"), 16, 32)
	if err != nil || len(s) != 7 || s[0] != '#' {
		return colour{}, fmt.Errorf("is %q, which is no colour", s)
	}
	return colour{uint8(n >> 16), uint8(n >> 8), uint8(n)}, nil //nolint:gosec // G115: bytes of a number of 24 bits
}

func (c colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

// mix takes a share of another colour in.
func (c colour) mix(o colour, share float64) colour {
	for i := range c {
		c[i] = uint8(math.Round(float64(c[i])*(1-share) + float64(o[i])*share))
	}
	return c
}

// toward goes to a colour by small steps until letters can be read.
func (c colour) toward(o, letters colour) colour {
	for share := 0.02; ; share += 0.02 {
		if m := c.mix(o, min(share, 1)); contrast(m, letters) >= textContrast || share >= 1 {
			return m
		}
	}
}

// luminance and contrast are those of WCAG 2.2.
func (c colour) luminance() float64 {
	part := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*part(c[0]) + 0.7152*part(c[1]) + 0.0722*part(c[2])
}

func contrast(a, b colour) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
