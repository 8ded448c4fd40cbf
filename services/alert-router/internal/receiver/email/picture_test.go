package email_test

import (
	"bytes"
	"encoding/base64"
	"flag"
	"html"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/messagetest"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

var pictures = flag.String("pictures", "", "draw the mails with chromium into this folder, to be looked at")

// go test ./internal/receiver/email -run TestPictures -pictures DIR
func TestPictures(t *testing.T) {
	if *pictures == "" {
		return // to be looked at, not compared: fonts differ from machine to machine
	}
	for _, shot := range []struct {
		name          string
		n             notification.Notification
		width, height int
		dark          bool
	}{
		{"page-email", messagetest.Fault(), 680, 1290, false},
		{"page-email-phone", messagetest.Fault(), 390, 1640, false},
		{"page-email-dark", messagetest.Ended(), 680, 1270, true},
		{"page-email-incident", messagetest.Gateway(24), 680, 1330, false},
		{"page-email-fault-dark", messagetest.Fault(), 680, 1290, true},
		{"page-email-incident-dark", messagetest.Gateway(24), 390, 1640, true},
		{"page-email-several", several(), 680, 1330, false},
		{"page-email-several-dark", several(), 390, 1640, true},
	} {
		p := messagetest.Composer().Page(shot.n, "anna@example.com")
		list := message.Pictures(p, nil)
		page, err := message.HTML(p, list)
		if err != nil {
			t.Fatal(err)
		}
		for _, pic := range list {
			page = bytes.ReplaceAll(page, []byte("cid:"+pic.ContentID), []byte("data:image/png;base64,"+base64.StdEncoding.EncodeToString(pic.PNG)))
		}
		// A frame, since a browser's window has a least width.
		size := `width="` + strconv.Itoa(shot.width) + `" height="` + strconv.Itoa(shot.height) + `"`
		frame := `<body style="margin:0"><iframe style="border:0" ` + size + ` srcdoc="` + html.EscapeString(string(page)) + `"></iframe>`
		in := filepath.Join(t.TempDir(), "page.html")
		if err := os.WriteFile(in, []byte(frame), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=" + strconv.Itoa(max(shot.width, 500)) + "," + strconv.Itoa(shot.height),
			"--screenshot=" + filepath.Join(*pictures, shot.name+".png"), "file://" + in,
		}
		if shot.dark {
			args = append([]string{"--blink-settings=preferredColorScheme=0"}, args...)
		}
		if out, err := exec.CommandContext(t.Context(), "chromium", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		crop(t, filepath.Join(*pictures, shot.name+".png"), shot.width)
	}
}

// several are alerts that are no incident: they are acknowledged by one link of their page.
func several() notification.Notification {
	n := messagetest.Gateway(3)
	n.Incident.ID = ""
	return n
}

func crop(t *testing.T, name string, width int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	part, ok := img.(interface {
		SubImage(r image.Rectangle) image.Image
	})
	if !ok || img.Bounds().Dx() <= width {
		return
	}
	var out bytes.Buffer
	if err := png.Encode(&out, part.SubImage(image.Rect(0, 0, width, img.Bounds().Dy()))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
