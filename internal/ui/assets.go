package ui

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"html"
	"io/fs"
	"path"
	"strings"
)

//go:embed page
var pageFiles embed.FS

// assets are the files of the page, all in memory. They are the same for
// everybody and hold nothing secret.
type assets struct {
	files map[string]asset // by address
	page  string           // with {{.Brand}} and {{.Token}} in it
}

// asset is one file, and compressed where that makes it smaller.
type asset struct {
	kind string
	body []byte
	gzip []byte
}

var kinds = map[string]string{
	".js":    "text/javascript; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".svg":   "image/svg+xml",
	".woff2": "font/woff2",
	".txt":   "text/plain; charset=utf-8",
	".json":  "application/json",
	".wav":   "audio/wav",
	".ogg":   "audio/ogg",
}

func loadAssets(brand string, look Look, pxPerMM float64, times Timeouts) (*assets, error) {
	a := &assets{files: map[string]asset{}}
	if err := a.loadPage(); err != nil {
		return nil, err
	}
	style, err := look.paint(pxPerMM)
	if err != nil {
		return nil, err
	}
	// Colours and scale are a style sheet of their own, since inline styles are forbidden.
	a.add("/brand.css", kinds[".css"], []byte(style))
	logo, kind, err := look.logo()
	if err != nil {
		return nil, err
	}
	if logo != nil {
		a.add("/logo", kind, logo)
	}
	doc := tableDoc(brand, times)
	doc.Logo, doc.Sounds = logo != nil, !look.Quiet
	table, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	a.add("/screens.json", kinds[".json"], table)
	for name, wave := range tones() {
		a.add("/sounds/"+name+".wav", kinds[".wav"], wave)
	}
	for _, c := range clips() {
		// A text without a clip is a fault that a test finds; a kiosk serves its other customers all the same.
		if body, err := speechFiles.ReadFile(c.file()); err == nil {
			a.files[c.address] = asset{kind: kinds[".ogg"], body: body}
		}
	}
	return a, nil
}

func (a *assets) loadPage() error {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return err
	}
	return fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if name == "index.html" {
			a.page = string(body)
			return nil
		}
		kind, ok := kinds[path.Ext(name)]
		if !ok {
			return fmt.Errorf("page file %s has no known kind", name)
		}
		a.add("/"+name, kind, body)
		return nil
	})
}

// fill fills the page in. Two places are no reason for a template engine, which
// would be an eighth of the whole program.
func (a *assets) fill(brand, token string) string {
	return strings.NewReplacer("{{.Brand}}", html.EscapeString(brand), "{{.Token}}", html.EscapeString(token)).Replace(a.page)
}

func (a *assets) add(address, kind string, body []byte) {
	f := asset{kind: kind, body: body}
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = w.Write(body) // into memory, which does not fail
	_ = w.Close()
	if b.Len() < len(body)*9/10 {
		f.gzip = b.Bytes()
	}
	a.files[address] = f
}

// tableJSON is the screen table as pages get it.
type tableJSON struct {
	Protocol string                     `json:"protocol"`
	Brand    string                     `json:"brand"`
	Logo     bool                       `json:"logo"`   // there is a picture at /logo
	Sounds   bool                       `json:"sounds"` // tones are wanted
	Tick     int64                      `json:"tick_ms"`
	Screens  []screenJSON               `json:"screens"`
	Texts    map[Lang]map[string]string `json:"texts"`
	Everyone []Command                  `json:"commands"` // of every screen
}

type screenJSON struct {
	State    State     `json:"state"`
	Limit    int64     `json:"limit_ms"`
	Ask      bool      `json:"ask"`
	Idle     bool      `json:"idle,omitempty"` // the limit counts from the last touch
	Then     State     `json:"then"`
	Wipes    bool      `json:"wipes"`
	Tone     Tone      `json:"tone"`
	Sound    string    `json:"sound,omitempty"`
	Commands []Command `json:"commands"`
}

func tableDoc(brand string, times Timeouts) *tableJSON {
	doc := &tableJSON{
		Protocol: Subprotocol, Brand: brand, Tick: times.Tick.Milliseconds(), Everyone: everyScreen,
		Texts: map[Lang]map[string]string{Indonesian: {}, English: {}},
	}
	for _, row := range Screens() {
		doc.Screens = append(doc.Screens, screenJSON{
			row.State, times.limit(row.State).Milliseconds(), row.Ask, row.Idle, row.Then, row.Wipes, row.Tone, row.Tone.sound(), row.Commands,
		})
	}
	for key, t := range textTable {
		doc.Texts[Indonesian][key], doc.Texts[English][key] = t.ID, t.EN
	}
	return doc
}
