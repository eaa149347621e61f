package ui

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Speech for the headphone socket. Every text of the table has a clip in both
// languages, made ahead by a synthesiser; see TestEveryTextIsSpoken. The page puts
// clips together and plays them when the customer asks for it. There are clips of
// numbers up to 60 (minutes, lengths) and of single letters and digits (the
// reference, a phone number); the page uses none of them where a secret is typed.

//go:embed speech
var speechFiles embed.FS

// clip is one thing that can be said.
type clip struct {
	lang    Lang
	address string
	words   string // what the synthesiser is given
}

// file is named by what is said: a text that changes has no clip until one is made.
func (c clip) file() string {
	sum := sha256.Sum256([]byte(string(c.lang) + "\x00" + c.words))
	return "speech/" + string(c.lang) + "/" + hex.EncodeToString(sum[:8]) + ".ogg"
}

// maxSpokenNumber is the largest number with a clip.
const maxSpokenNumber = 60

var placeholder = regexp.MustCompile(`\{\w+\}`)

// clips lists everything that can be said, in a fixed order.
func clips() []clip {
	var all []clip
	keys := make([]string, 0, len(textTable))
	for key := range textTable {
		if !forStaff(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, lang := range []Lang{Indonesian, English} {
		base := "/speech/" + string(lang) + "/"
		for _, key := range keys {
			text := say(lang, key)
			spoken := text
			if t, ok := spokenTexts[key]; ok {
				spoken = t.in(lang)
			}
			for i, part := range placeholder.Split(spoken, -1) {
				if strings.ContainsFunc(part, unicode.IsLetter) {
					all = append(all, clip{lang, base + key + "/" + strconv.Itoa(i), pronounce(lang, part)})
				}
			}
		}
		for n := range maxSpokenNumber + 1 {
			all = append(all, clip{lang, base + "number/" + strconv.Itoa(n), strconv.Itoa(n)})
		}
		for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789" {
			all = append(all, clip{lang, base + "letter/" + string(c), string(c)})
		}
		for _, name := range slices.Sorted(maps.Keys(spokenSigns)) {
			all = append(all, clip{lang, base + "letter/" + name, spokenSigns[name].in(lang)})
		}
	}
	return all
}

// forStaff tells the operator's texts, which nobody listens to.
func forStaff(key string) bool {
	for _, p := range []string{"OP_", "OUT_OF_SERVICE.hint.", "advice.", "do.op", "evidence.", "state."} {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// in is a text in a language.
func (t Text) in(l Lang) string {
	if l == English {
		return t.EN
	}
	return t.ID
}

// spokenTexts are said otherwise than written. They have the same words in braces.
var spokenTexts = Texts{
	"field.phoneNo.hint": {"Dimulai dengan nol delapan.", "Begins with zero eight."},
	"do.lang":            {"Bahasa Inggris, English.", "Indonesian, Bahasa Indonesia."},
}

// spokenSigns are the names of what an identifier may have beside letters and digits,
// and of what is said before a capital.
var spokenSigns = Texts{
	"capital":    {"huruf besar", "capital"},
	"dash":       {"strip", "dash"},
	"dot":        {"titik", "dot"},
	"underscore": {"garis bawah", "underscore"},
}

// Signs that a synthesiser would misread.
var (
	pronounced   = strings.NewReplacer("PIN", "pin", "OTP", "o te pe", "QR", "kyu er", "URN", "u er en", "ID ", "i de ", "…", ".", " - ", " strip ", "_", " garis bawah ")
	pronouncedEN = strings.NewReplacer("PIN", "pin", "OTP", "O T P", "QR", "Q R", "URN", "U R N", "ID ", "I D ", "…", ".", " - ", " dash ", "_", " underscore ")
)

func pronounce(l Lang, words string) string {
	if l == English {
		return strings.TrimSpace(pronouncedEN.Replace(words))
	}
	return strings.TrimSpace(pronounced.Replace(words))
}
