// Records of a stream that tell how far the server is before the first piece of the output.

/** Return the text and the share of what a record reports, null if it is no such record. */
export function phaseOf(record) {
	if (record.queue !== undefined) {
		const { position, waiting } = record.queue;
		return [`Waiting: number ${position} of ${waiting} in the queue`, null];
	}
	return null;
}
