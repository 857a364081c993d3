SELECT profile, content FROM iot_service.raw_frames
 WHERE device_id = %(device_id)s AND last_at >= %(from_at)s::timestamptz AND first_at < %(to_at)s::timestamptz
 ORDER BY block_id
