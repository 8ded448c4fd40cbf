package consume

// ParseCommitMetadata is what a commit of this group says beside the offset: the topic's id (hexadecimal) and the first offset that no file
// covers. false: it is no commit of this group's members.
func ParseCommitMetadata(s string) (topicID string, first int64, ok bool) {
	return parseCommitMetadata(s)
}
