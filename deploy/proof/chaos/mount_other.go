//go:build !linux

package chaos

import "errors"

func mountMemory(string, int) error { return errors.ErrUnsupported }

func unmountMemory(string) error { return errors.ErrUnsupported }
