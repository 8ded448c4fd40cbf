package main

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows a bar on a terminal, a line for each file elsewhere.
func progress(w *os.File) (show func(done, total int, name string, took time.Duration), done func()) {
	if st, err := w.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return func(done, total int, name string, took time.Duration) {
			fmt.Fprintf(w, "%d/%d %s %.2f s\n", done, total, name, took.Seconds())
		}, func() {}
	}
	var bar *progressbar.ProgressBar
	show = func(done, total int, name string, _ time.Duration) {
		if bar == nil {
			bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
				progressbar.OptionClearOnFinish())
		}
		bar.Describe(name)
		_ = bar.Set(done) // a bar that cannot be drawn must not stop the work
	}
	return show, func() {
		if bar != nil {
			_ = bar.Finish()
		}
	}
}
